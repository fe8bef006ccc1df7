/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * What a socket is given beforehand that may come to the short cut: a buffer, and timers for a path of microseconds.
 */
#pragma once
#include "flow.h"
#include "kernel.h"

#define SOL_SOCKET 1
#define SO_RCVBUF 8
#define TCP_BPF_DELACK_MAX 1003
#define TCP_BPF_RTO_MIN 1004
#define TCP_RTO_MAX_MS 44 /* kernel 6.15; before, a packet held back comes again as late as its reader did */
#define RCVBUF_LOCKED 2 /* SOCK_RCVBUF_LOCK: the program has chosen its receive buffer itself */

/* Make a socket ready for the short cut. TCP grows a receive buffer only for bytes that it delivers itself, so one that
 * gets its bytes redirected would keep its first, small one, which bounds both ways (bpf/skmsg.c). And a packet that was
 * held back (bpf/enrol.h) should come again soon, on a path of microseconds. */
static __always_inline void prepare(struct bpf_sock_ops *s, u64 sk) {
  int rcvbuf = SHORT_CUT_RCVBUF / 2; /* the kernel doubles it, within net.core.rmem_max */
  u32 rto = 10000, delack = 4000;    /* microseconds */
  if (!(peek8(sk, OFF_SK_USERLOCKS) >> BIT_SK_USERLOCKS & RCVBUF_LOCKED) &&
      peek32(sk, OFF_SK_RCVBUF) < SHORT_CUT_RCVBUF)
    bpf_setsockopt(s, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf));
  bpf_setsockopt(s, IPPROTO_TCP, TCP_BPF_DELACK_MAX, &delack, sizeof(delack));
  bpf_setsockopt(s, IPPROTO_TCP, TCP_BPF_RTO_MIN, &rto, sizeof(rto));
}

/* Milliseconds. The kernel gives a connection up after about 12 times this: more than bpf/enrol.h holds a packet. But what
 * a program left when it closed is given up as soon as the timer has grown so far, so that gets the kernel's own figure. */
#define RTO_MAX_MS 4000
#define RTO_MAX_OF_KERNEL_MS 120000

/* A retransmission timer has run out: let those to come not be far apart, if the packet may be one that was held back. Not
 * before, because most connections never get here. */
static __always_inline int late(struct bpf_sock_ops *s, struct tuple *t) {
  int rto_max = RTO_MAX_MS;
  struct conn_key k ALIGNED;
  if (s->state != BPF_TCP_ESTABLISHED && s->state != BPF_TCP_CLOSE_WAIT)
    return 0;
  READ_TUPLE(s, t);
  conn_side(&k, t->local, t->remote, t->local_port, t->remote_port);
  struct conn *c = conns.lookup(&k);
  if (c && c->flags & CONN_FLAG_CANDIDATE)
    bpf_setsockopt(s, IPPROTO_TCP, TCP_RTO_MAX_MS, &rto_max, sizeof(rto_max));
  return 0;
}

/* No more will be sent from here on but what is sent again: of a connection on the short cut it may be held back, and the
 * kernel would give it up as soon as its timer has grown to what late(), the program or its pod has set. */
static __always_inline int patient(struct bpf_sock_ops *s, struct tuple *t) {
  int rto_max = RTO_MAX_OF_KERNEL_MS;
  if (!s->total_retrans) { /* it never was late() */
    struct conn_key k ALIGNED;
    READ_TUPLE(s, t);
    conn_side(&k, t->local, t->remote, t->local_port, t->remote_port);
    struct conn *c = conns.lookup(&k);
    if (!c || !(c->end[0].enrolled | c->end[1].enrolled))
      return 0;
  }
  bpf_setsockopt(s, IPPROTO_TCP, TCP_RTO_MAX_MS, &rto_max, sizeof(rto_max));
  return 0;
}

static __always_inline int is_multipath(u64 sk) {
#ifdef OFF_TP_IS_MPTCP
  return peek8(sk, OFF_TP_IS_MPTCP) >> BIT_TP_IS_MPTCP & 1;
#else
  return 0;
#endif
}
