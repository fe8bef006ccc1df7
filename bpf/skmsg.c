/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Each message of an enrolled socket: still allowed? peer ready? then straight into the peer's receive queue, else on
 * through TCP. "Ready" keeps three promises (docs in bpf/enrol.h):
 *   order:   the peer has read every TCP byte and none is in flight, and the peer reads redirected bytes first;
 *   memory:  the peer's queues hold less than half its receive buffer, so a slow reader stops us as TCP would;
 *   reader:  the peer's program was never seen in a call that cannot see redirected bytes.
 * A message that is not redirected is never lost or refused: it goes over TCP, where the packet hooks judge it.
 */
#include "flow.h"
#include "kernel.h"

/* Whether an end's address, which `owner` has now, is still its pod's: that pod may have got another id, and another may
 * have its address. `proxy_netns`: the node proxy's, where its socket stands for the pod; else 0. A pod that forges a
 * connection of the proxy's does not have it. */
static __always_inline int is_still(const struct end *e, u32 owner, u64 proxy_netns) {
  struct endpoint *ep = owner ? endpoint_by_id(owner) : 0;
  u64 net = ep ? peek64(e->sock, OFF_SKC_NET) : 0;
  return net && peek64(net, OFF_NET_COOKIE) == (proxy_netns ? proxy_netns : ep->netns_cookie);
}

/* A queue has come to the interface of this end's pod: bytes are to wait in it. */
static __always_inline void bar_shaped(struct end *e, u32 owner) {
  struct endpoint *ep = owner ? endpoint_by_id(owner) : 0;
  if (ep && !(ep->flags & ENDPOINT_FLAG_UNSHAPED) && !e->marked)
    e->marked = e->reason = ACCEL_REASON_QUEUE;
}

/* 0, or the metric that counts why the message goes over TCP. */
static __always_inline u32 refused_now(struct conn *c, const struct conn_key *k) {
  struct config *cfg = get_config();
  if (!cfg)
    return METRIC_PASS_DENIED;
  /* Before the edition: what an edit writes last must not be taken for the generation of what it replaced. */
  u32 generation = *(volatile u32 *)&cfg->generation;
  if (c->generation == generation)
    return c->denied ? METRIC_PASS_DENIED : 0;
  if (edition_state() == EDITION_STATE_BOTH)
    return METRIC_PASS_SWITCHING; /* TCP's hooks ask both, for some milliseconds: here it is too much for kernel 6.1 */
  struct pair p;
  int side = initiator(c);
  struct end *from = END_OF(c, side), *to = END_OF(c, !side);
  if (freed(from) || freed(to))
    return METRIC_PASS_GONE; /* whose its memory is now says nothing of the connection */
  ask_pair(&p, side ? k->addr1 : k->addr0, side ? k->addr0 : k->addr1, IPPROTO_TCP, side ? k->port0 : k->port1, 0);
  u64 proxy = cfg->proxy_netns;
  u32 led = c->flags & CONN_FLAGS_PROXY;
  int still = (!led || proxy) && is_still(from, p.src_endpoint, led & CONN_FLAG_FROM_PROXY ? proxy : 0) &&
              is_still(to, p.dst_endpoint, led & CONN_FLAG_TO_PROXY ? proxy : 0);
  /* What the proxy is to look into has one of its sockets at an end. */
  int ok = still && (led ? pair_allowed(&p) : p.egress.verdict == VERDICT_ALLOW && p.ingress.verdict == VERDICT_ALLOW);
  from->rule = still ? p.egress.rule_id : 0; /* else it is another pod's */
  to->rule = still ? p.ingress.rule_id : 0;
  bar_shaped(from, p.src_endpoint);
  bar_shaped(to, p.dst_endpoint);
  c->denied = !ok;
  c->generation = generation;
  return ok ? 0 : METRIC_PASS_DENIED;
}

/* What a queued message costs beside its bytes (6.18). The kernel puts it on no socket's account, so of small ones fewer
 * bytes may wait: all together they take no more than half of the buffer, or what a pipeline of FEW takes if that is more. */
#define MESSAGE_COST 1024
#define FEW 256

/* Some tens of nanoseconds: a clock is read without touching what another core works on. */
#define BREATHE()                                                                                                  \
  do {                                                                                                             \
    bpf_ktime_get_ns();                                                                                            \
    bpf_ktime_get_ns();                                                                                            \
    bpf_ktime_get_ns();                                                                                            \
    bpf_ktime_get_ns();                                                                                            \
    bpf_ktime_get_ns();                                                                                            \
    bpf_ktime_get_ns();                                                                                            \
  } while (0)

/* Whether the peer's queue has room: it holds no more than `limit`. A reader on another core makes some in a few
 * microseconds, and the way over TCP costs milliseconds before the direction is back on the short cut, so it is worth a
 * wait: up to a millisecond. A server may have a thousand readers that are slow: long waits take a tenth of a core at most,
 * all together. */
#define ROOM_BREATHS 1000
#define SHORT_BREATHS 100
#define REST_TIMES 9
BPF_PERCPU_ARRAY(resting, u64, 1); /* until when this core waits but shortly */

static __always_inline int has_room(u64 peer, u32 limit) {
#ifdef PSOCK_NOT_IN_RMEM
  return queued_bytes(peer) <= limit;
#else
  u32 zero = 0;
  u64 *until = resting.lookup(&zero), since = 0;
  int room = 0;
  if (!until)
    return 0;
#pragma clang loop unroll(disable)
  for (int i = 0; i < ROOM_BREATHS; i++) {
    if (queued_bytes(peer) <= limit) {
      room = 1;
      break;
    }
    if (i == SHORT_BREATHS) {
      since = bpf_ktime_get_ns();
      if (since < *until)
        return 0;
    }
    BREATHE();
    BREATHE();
    BREATHE();
    BREATHE();
    BREATHE();
  }
  if (since) {
    u64 now = bpf_ktime_get_ns();
    *until = now + (now - since) * REST_TIMES;
  }
  return room;
#endif
}

/* The kernel takes the reader's socket lock to queue a message, and a reader that copies holds it: to sleep for it costs
 * two switches and two wake-ups a message, to wait a few microseconds costs those microseconds. */
#define LOCK_BREATHS 64

static __always_inline void await_reader(u64 peer) {
#pragma clang loop unroll(disable)
  for (int i = 0; i < LOCK_BREATHS; i++) {
    if (!peek32(peer, OFF_SK_OWNED))
      return;
    BREATHE();
  }
}

/* A reader that does not keep up gets its bytes over TCP, whose flow control is made for it: for 2 ms at first, and up to
 * half a second if that happens again and again. Returns until when. */
static __always_inline u64 overrun(u64 last, u8 *times) {
  u64 now = bpf_ktime_get_ns();
  if (now - last > 10000000000ull)
    *times = 0;
  if (*times < 9)
    *times += 1;
  return now + (1000000ull << *times);
}

/* This end asks for a message's way; a redirect of its may be under way from now on. Whoever takes a socket out of the
 * sockhash marks first and looks at `busy` then (bpf/enrol.h); here it is the other way round, with a fence between: an
 * atomic add, which has an order on x86. */
static __always_inline void take_turn(struct end *me) {
  me->busy = 1;
  __sync_fetch_and_add(&me->tcp_msgs, 0);
}

/* The message goes over TCP. When nobody else is inside this socket's send or receive, no redirect is under way either. */
static __always_inline void give_up_turn(struct end *me) {
  u64 psock = psock_of(me->sock);
  if (psock && peek32(psock, OFF_PSOCK_REFS) == 2 && me->enrolled == 1)
    me->busy = 0;
}

int skmsg(struct sk_msg_md *m) {
  struct tuple t ALIGNED = {};
  struct conn_key k ALIGNED = {};
  READ_TUPLE(m, &t);
  int side = conn_side(&k, t.local, t.remote, t.local_port, t.remote_port);
  struct conn *c = conns.lookup(&k);
  struct end *me = 0;
  u32 size = m->size, who = 0, why = 0; /* why it goes over TCP, where that is counted */
  if (!c)
    goto tcp;
  me = END_OF(c, side);
  struct end *peer = END_OF(c, !side);
  who = me->endpoint;
  take_turn(me);
  if (me->enrolled != 1 || peer->enrolled != 1)
    goto tcp;
  why = refused_now(c, &k);
  if (why)
    goto tcp;
  if (me->marked | peer->marked) {
    why = METRIC_PASS_MARKED;
    goto tcp;
  }
  u64 reader = peer->sock;
  if (freed(peer)) {
    why = METRIC_PASS_GONE;
    goto tcp;
  }
  /* The first bytes that a program ever reads come over TCP: it may yet say how it wants to read. */
  if (!drained(me->sock, reader) || (!me->redirect_bytes && !peek64(reader, OFF_TP_RECEIVED))) {
    why = METRIC_PASS_NOT_DRAINED;
    goto tcp;
  }
  if (me->pause && bpf_ktime_get_ns() < me->pause) {
    why = METRIC_PASS_QUEUE_FULL;
    goto tcp;
  }
  u32 mean = me->mean ? (me->mean * 7 + size) / 8 : size;
  me->mean = mean;
  u64 whole = peek32(reader, OFF_SK_RCVBUF), limit = whole / 2 * mean / (mean + MESSAGE_COST);
  u64 few = (u64)mean * FEW;
  if (limit < few)
    limit = few < whole / 2 ? few : whole / 2;
  if (size > whole) {
    why = METRIC_PASS_QUEUE_FULL;
    goto tcp;
  }
  if (!has_room(reader, limit < whole - size ? limit : whole - size)) {
    me->pause = overrun(me->pause, &me->overruns);
    why = METRIC_PASS_QUEUE_FULL;
    goto tcp;
  }
  await_reader(reader);
  if (me->marked | peer->marked) { /* meanwhile */
    why = METRIC_PASS_MARKED;
    goto tcp;
  }
  struct cookie_key to = {.cookie = peer->cookie};
  if (socks.msg_redirect_hash(m, &to, 1 /* BPF_F_INGRESS */) != SK_PASS) {
    /* The peer has left the sockhash: the kernel would drop the message, so take the redirect back. */
    why = METRIC_REDIRECT_FAILED;
    goto tcp;
  }
  if (peer->held)
    peer->held = 0; /* nothing of TCP is under way: what is held back next has not waited yet */
  me->redirect_bytes += size;
  me->redirect_msgs++;
  count(METRIC_REDIRECT_MESSAGES, who);
  count_by(METRIC_REDIRECT_BYTES, size, who);
  return SK_PASS;

tcp:
  if (me) {
    me->tcp_msgs++;
    give_up_turn(me);
  }
  if (why)
    count(why, who);
  count(METRIC_TCP_MESSAGES, who);
  count_by(METRIC_TCP_BYTES, size, who);
  return SK_PASS;
}
