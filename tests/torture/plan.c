/* Plans: small sizes often, 8 MB rarely; every way of sending meets every way of reading sooner or later. */
#include "plan.h"
#include <stdio.h>
#include <string.h>

static uint64_t mix(uint64_t z) { /* splitmix64's finisher */
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

uint64_t next(struct rng *rng) { return mix(rng->state += 0x9e3779b97f4a7c15ULL); }
long below(struct rng *rng, long n) { return n > 0 ? (long)(next(rng) % (uint64_t)n) : 0; }
int chance(struct rng *rng, int percent) { return below(rng, 100) < percent; }

uint64_t direction_key(const struct plan *plan, int sender) {
  return mix(plan->seed * 0x9e3779b97f4a7c15ULL + mix(plan->id * 2 + (uint64_t)sender + 1));
}
uint8_t urgent_byte(uint64_t key) { return (uint8_t)mix(key ^ 0x0b); }

static uint64_t word(uint64_t key, long index) { return mix(key + (uint64_t)index * 0x9e3779b97f4a7c15ULL); }

void fill(uint8_t *out, uint64_t key, long position, long n) {
  while (n > 0) {
    long skip = position & 7, take = 8 - skip < n ? 8 - skip : n;
    uint64_t value = word(key, position >> 3);
    memcpy(out, (uint8_t *)&value + skip, (size_t)take);
    out += take, position += take, n -= take;
  }
}

long first_wrong(const uint8_t *in, uint64_t key, long position, long n) {
  for (long done = 0; done < n;) {
    long skip = (position + done) & 7, take = 8 - skip < n - done ? 8 - skip : n - done;
    uint64_t value = word(key, (position + done) >> 3);
    if (memcmp(in + done, (uint8_t *)&value + skip, (size_t)take))
      for (long i = 0; i < take; i++)
        if (in[done + i] != ((uint8_t *)&value)[skip + i]) return done + i;
    done += take;
  }
  return -1;
}

static long some_size(struct rng *rng) {
  long kind = below(rng, 100);
  if (kind < 8) return 0;
  if (kind < 60) return below(rng, 2048);
  if (kind < 85) return below(rng, 64 << 10);
  if (kind < 97) return below(rng, 512 << 10);
  return below(rng, MAX_TOTAL + 1);
}

static long some_chunk(struct rng *rng, long total) {
  static const long most[] = {7, 200, 1460, 4096, 16384, 65536, 262144, 1 << 20};
  int i = (int)below(rng, 8);
  while (total / most[i] > 2000) i++; /* a million one-byte calls would only test patience */
  return most[i];
}

static void add(struct side *side, long wait, long size) {
  if (side->segments == MAX_SEGMENTS) side->segment[MAX_SEGMENTS - 1].size += size;
  else side->segment[side->segments++] = (struct segment){wait, size};
  side->total += size;
}

static void make_traffic(struct plan *plan, struct rng *rng) {
  struct side *c = &plan->side[CLIENT], *s = &plan->side[SERVER];
  int first = chance(rng, 75) ? CLIENT : SERVER; /* who speaks first */
  struct side *a = &plan->side[first], *b = &plan->side[!first];
  if (chance(rng, 80)) { /* small calls and answers: mostly enough of them to get over any probation */
    long rounds = chance(rng, 70) ? 20 + below(rng, 50) : 1 + below(rng, 20);
    for (long i = 0; i < rounds; i++) {
      add(a, b->total, 1 + below(rng, 300));
      add(b, a->total, 1 + below(rng, 300));
    }
  }
  switch (below(rng, 6)) {
  case 0: /* calls and answers of any size */
    for (long i = 1 + below(rng, 6); i > 0; i--) {
      add(a, b->total, some_size(rng) / 4);
      add(b, a->total, some_size(rng) / 4);
    }
    break;
  case 1: add(c, s->total, some_size(rng)); break;
  case 2: add(s, c->total, some_size(rng)); break;
  case 3: /* an upload, then a download */
    add(c, s->total, some_size(rng));
    add(s, c->total, some_size(rng));
    break;
  default: /* both ways at once */
  {
    long before = c->total;
    add(c, s->total, some_size(rng));
    add(s, before, some_size(rng));
  }
  }
}

/* fit: for the short cut; odd: this end does what the executable is there for. */
static void make_side(struct plan *plan, struct rng *rng, int who, int fit, int odd) {
  struct side *side = &plan->side[who];
  long in = plan->side[!who].total;
  side->engine = fit ? (enum engine)(1 + below(rng, ENGINES - 1)) : (enum engine)below(rng, ENGINES);
  side->tx = (enum tx)below(rng, TX_URING);
  side->rx = (enum rx)below(rng, RX_URING);
  if (chance(rng, 40)) side->rx = RX_RECV; /* what most programs do */
  if (odd && plan->mode == LATE) side->rx = RX_LATE;
  if (odd && plan->mode == RINGS) {
    int how = (int)below(rng, 3);
    if (how != 0) side->rx = RX_URING;
    if (how != 1) side->tx = TX_URING;
    side->engine = BLOCKING; /* else the ring would answer EAGAIN instead of waiting */
  }
  side->tx_chunk = some_chunk(rng, side->total);
  side->rx_chunk = some_chunk(rng, in);
  if (chance(rng, 20)) side->nodelay = 1;
  if (chance(rng, 10)) side->cork = 1;
  if (chance(rng, 15)) side->more = 1;
  if (chance(rng, 10)) side->sndbuf = 4608 + (int)below(rng, 16384);
  /* Small bodies only, and not tinier: TCP itself would crawl from one timer to the next, for over 5 s. */
  if (chance(rng, 10) && in < (64 << 10)) side->rcvbuf = 8192 + (int)below(rng, 16384);
  if (chance(rng, 15)) {
    side->slow_reads = 1 + (int)below(rng, 20);
    side->slow_us = 1 + (int)below(rng, 20000);
  }
  if (chance(rng, 20)) side->start_delay_us = (int)below(rng, 20000);
  if (side->rx == RX_LOWAT) {
    side->lowat = 2 + (int)below(rng, 4000);
    side->rcvbuf = 0;
  }
  side->late = below(rng, in + 1);
}

void make_plan(struct plan *plan, uint64_t seed, uint64_t id, enum mode mode) {
  struct rng rng = {mix(seed) ^ mix(id * 0x2545f4914f6cdd1dULL + 7)};
  memset(plan, 0, sizeof *plan);
  plan->seed = seed, plan->id = id, plan->mode = mode;
  plan->family = (enum family)below(&rng, FAMILIES);
  plan->end = (enum end)below(&rng, ENDS);
  make_traffic(plan, &rng);
  struct side *sides = plan->side;
  for (int who = 0; who < 2; who++)
    /* Reset only when the peer has said that it has read all, so nothing may be missing. */
    if (resets(plan, who) == 1 && !aborts(plan)) add(&sides[!who], sides[who].total, 1 + below(&rng, 64));
  int odd_side = (int)below(&rng, 3); /* 2: both */
  int fit = chance(&rng, 75);         /* both ends non-blocking: else there is no short cut */
  for (int who = 0; who < 2; who++) {
    make_side(plan, &rng, who, fit, odd_side == 2 || odd_side == who);
    sides[who].wanted = sides[!who].total;
    sides[who].urgent = -1;
  }
  for (int who = 0; who < 2; who++) {
    enum rx reader = sides[!who].rx;
    /* A tiny buffer that dropped segments leaves zero-copy notices outstanding over plain TCP, too. */
    if (sides[who].tx == TX_ZEROCOPY) sides[!who].rcvbuf = 0;
    /* Not as the last byte to a reader that closes then: read by MSG_OOB it stays in the queue, and TCP answers a close
     * with bytes in the queue by a reset. */
    if ((reader == RX_RECV || reader == RX_RECVMSG) && sides[who].total && chance(&rng, 6))
      sides[who].urgent = below(&rng, sides[who].total + !closes(plan, !who));
    if (resets(plan, who) == 1 && aborts(plan)) {
      /* TCP throws away segments that a tiny buffer cannot hold, and with them, for good, the RST behind them. */
      sides[!who].rcvbuf = 0;
      sides[who].rcvbuf = 0; /* nor does it take acknowledgements behind such segments, once this side reads no more */
      sides[who].wanted = below(&rng, sides[!who].total + 1);
      for (int i = 0; i < sides[who].segments; i++)
        if (sides[who].segment[i].wait > sides[who].wanted) sides[who].segment[i].wait = sides[who].wanted;
    }
  }
}

int resets(const struct plan *plan, int side) {
  switch (plan->end) {
  case RESET_CLIENT:
  case ABORT_CLIENT: return side == CLIENT ? 1 : 2;
  case RESET_SERVER:
  case ABORT_SERVER: return side == SERVER ? 1 : 2;
  default: return 0;
  }
}
int aborts(const struct plan *plan) { return plan->end == ABORT_CLIENT || plan->end == ABORT_SERVER; }
int shuts(const struct plan *plan, int side) {
  return plan->end == SHUT_BOTH || plan->end == (side == CLIENT ? SHUT_CLIENT : SHUT_SERVER);
}
int closes(const struct plan *plan, int side) { return plan->end == (side == CLIENT ? CLOSE_CLIENT : CLOSE_SERVER); }

void print_plan(const struct plan *plan) {
  static const char *const tx[] = {"send", "sendmsg", "sendfile", "splice", "vmsplice", "zerocopy", "io_uring"};
  static const char *const rx[] = {"recv", "recvmsg", "peek", "waitall", "lowat", "splice", "io_uring", "late splice"};
  static const char *const engine[] = {"blocking", "threads+poll", "poll", "epoll-et"};
  static const char *const end[] = {"client shuts", "server shuts", "both shut", "client closes", "server closes",
                                    "client resets", "server resets", "client aborts", "server aborts"};
  static const char *const family[] = {"v4", "v6", "v4 to dual", "v6 to dual", "mapped to dual"};
  static const char *const mode[] = {"plain", "rings", "late"};
  printf("{\"seed\": %lu, \"id\": %lu, \"mode\": \"%s\", \"end\": \"%s\", \"family\": \"%s\", \"sides\": [", plan->seed, plan->id,
         mode[plan->mode], end[plan->end], family[plan->family]);
  for (int i = 0; i < 2; i++) {
    const struct side *s = &plan->side[i];
    printf("%s{\"side\": \"%s\", \"engine\": \"%s\", \"tx\": \"%s\", \"rx\": \"%s\", \"sends\": %ld, \"reads\": %ld, "
           "\"segments\": %d, \"tx_chunk\": %ld, \"rx_chunk\": %ld, \"sndbuf\": %d, \"rcvbuf\": %d, \"nodelay\": %d, "
           "\"cork\": %d, \"more\": %d, \"slow_reads\": %d, \"slow_us\": %d, \"start_delay_us\": %d, \"lowat\": %d, "
           "\"late\": %ld, \"urgent\": %ld}",
           i ? ", " : "", i ? "server" : "client", engine[s->engine], tx[s->tx], rx[s->rx], s->total, s->wanted,
           s->segments, s->tx_chunk, s->rx_chunk, s->sndbuf, s->rcvbuf, s->nodelay, s->cork, s->more, s->slow_reads,
           s->slow_us, s->start_delay_us, s->lowat, s->late, s->urgent);
  }
  printf("]}\n");
}
