/* One call that sends or reads something, in each of the ways a program may do it. */
#pragma once
#include "plan.h"
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

struct conn {
  struct plan plan;
  int me, fd, late; /* late: this executable may be reset by the mesh for splicing late */
  struct side *side, *peer;
  uint64_t key_in, key_out;
  uint8_t *out, *in;
  size_t in_size;
  atomic_long sent, received, progress;
  int segment;     /* of what this side sends */
  int urgent_sent, urgent_read;
  int tx_error;    /* errno that ended sending early, where the plan allows it */
  long short_at;   /* position of a read that was shorter than asked for; -1: none */
  int lowat_now, marked_polls, early_polls, slow_left;
  int ended_plainly; /* end of stream where the plan says reset: right only if the error went to a send */
  int memfd, tx_pipe[2], rx_pipe[2];
  long piped;      /* bytes that wait in tx_pipe */
  atomic_uint zc_sent, zc_done;
  struct io_uring tx_ring, rx_ring;
  struct rng tx_rng, rx_rng;
  const char *volatile doing_tx, *volatile doing_rx;
  pthread_mutex_t lock;
  pthread_cond_t changed; /* bytes were received, or all is over */
  int over;
};

void open_transfer(struct conn *conn, const struct plan *plan, int me, int fd);

/* Send something: more than 0, or -errno (-EAGAIN: the socket is full). Only to be called if can_send. */
long step_tx(struct conn *conn);
/* Whether there is something to send that need not wait for the peer; all_sent: nothing is left at all. */
int can_send(struct conn *conn);
int all_sent(const struct conn *conn);

/* Read something and check it: more than 0; 0 at the end of the stream; or -errno. */
long step_rx(struct conn *conn);
/* Wait for the urgent byte if it is due here, and check it. */
void read_urgent(struct conn *conn);

void reap_zerocopy(struct conn *conn);
void finish_zerocopy(struct conn *conn);

/* Print this side's result line and end the process. */
_Noreturn void report(struct conn *conn, const char *result, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
