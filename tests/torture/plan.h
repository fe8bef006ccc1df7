/* What one connection does, derived from (seed, id) alone, so that both ends know it without telling each other. */
#pragma once
#include <stdint.h>

enum { CLIENT = 0, SERVER = 1 };

enum tx { TX_SEND, TX_SENDMSG, TX_SENDFILE, TX_SPLICE, TX_VMSPLICE, TX_ZEROCOPY, TX_URING, TX_KINDS };
enum rx { RX_RECV, RX_RECVMSG, RX_PEEK, RX_WAITALL, RX_LOWAT, RX_SPLICE, RX_URING, RX_LATE, RX_KINDS };
enum engine { BLOCKING, THREADS_POLL, LOOP_POLL, LOOP_EPOLL, ENGINES };
enum end { SHUT_CLIENT, SHUT_SERVER, SHUT_BOTH, CLOSE_CLIENT, CLOSE_SERVER, RESET_CLIENT, RESET_SERVER, ABORT_CLIENT,
           ABORT_SERVER, ENDS };
enum mode { PLAIN, RINGS, LATE }; /* which executable this is: see stream.c */
enum family { V4, V6, V4_DUAL, V6_DUAL, V4_MAPPED, FAMILIES }; /* dual: a server socket of both; mapped: client, too */

#define MAX_TOTAL (8L << 20)
#define MAX_SEGMENTS 160

struct segment {
  long wait; /* send it once this many bytes were received from the peer */
  long size;
};

struct side {
  enum engine engine;
  enum tx tx;
  enum rx rx;
  long tx_chunk, rx_chunk; /* at most this much a call */
  int sndbuf, rcvbuf;      /* 0: the kernel's own */
  int nodelay, cork, more;
  int slow_reads, slow_us; /* so many pauses before a read */
  int start_delay_us;
  int lowat;
  long late;   /* RX_LATE: splice from this position on */
  long urgent; /* position of the urgent byte in what this side sends; -1: none */
  int segments;
  struct segment segment[MAX_SEGMENTS];
  long total;  /* bytes this side sends */
  long wanted; /* bytes this side reads: all the peer sends, but where it aborts */
};

struct plan {
  uint64_t seed, id;
  enum mode mode;
  enum end end;
  enum family family;
  struct side side[2];
};

/* Fill in the plan of connection `id`. RINGS: one end at least uses io_uring; LATE: reads first and splices later. */
void make_plan(struct plan *plan, uint64_t seed, uint64_t id, enum mode mode);
void print_plan(const struct plan *plan);

/* 1: this side ends by reset; 2: its peer does. 0: neither. */
int resets(const struct plan *plan, int side);
/* Whether the reset may overtake bytes (it waits for no confirmation). */
int aborts(const struct plan *plan);
/* Whether the side shuts down writing when all is sent; whether it closes without waiting for the peer's end. */
int shuts(const struct plan *plan, int side);
int closes(const struct plan *plan, int side);

/* The bytes of a direction: a function of the position, so that any piece can be checked alone. */
void fill(uint8_t *out, uint64_t key, long position, long n);
/* Return the index of the first wrong byte, or -1. */
long first_wrong(const uint8_t *in, uint64_t key, long position, long n);
uint64_t direction_key(const struct plan *plan, int sender);
uint8_t urgent_byte(uint64_t key);

struct rng {
  uint64_t state;
};
uint64_t next(struct rng *rng);
long below(struct rng *rng, long n); /* 0 to n-1 */
int chance(struct rng *rng, int percent);
