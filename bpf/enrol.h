/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Puts a socket into the sockhash, late. Being in a sockhash already changes how a socket reads: a blocking recv may
 * return EAGAIN after a wake-up without data, a signal or a reset, whether or not a byte was ever redirected. So a
 * socket stays a plain TCP socket until it has proved itself: some packets old, its program reads in non-blocking mode,
 * no low-water mark, no upper layer protocol, no other owner, no mark. Short connections never pay for it.
 *
 * The packet hook on the pod's host-side interface is the place: it runs in its own soft interrupt, never inside the
 * socket's own send or receive path, so taking the socket's spinlock cannot deadlock, and a sched_cls program may update
 * a sockhash (kernel 5.10). The pod's namespace is named by the id that the agent gave it.
 */
#pragma once
#include "flow.h"
#include "kernel.h"
#include "packet.h"

#define O_NONBLOCK_FLAG 04000
#define NSID_UNKNOWN 0xffffffff

/* Why this end must not be redirected to, as far as its socket tells now; ACTIVE when nothing speaks against it. */
static __always_inline u8 reader_reason(struct end *e, int is_proxys) {
  u64 sk = e->sock;
  if (!sk || freed(e))
    return ACCEL_REASON_UNKNOWN;
  u64 sock = peek64(sk, OFF_SK_SOCKET);
  u64 file = sock ? peek64(sock, OFF_SOCKET_FILE) : 0;
  if (!file)
    return ACCEL_REASON_PROBATION; /* not accepted yet */
  if (!(peek32(file, OFF_FILE_FLAGS) & O_NONBLOCK_FLAG))
    return ACCEL_REASON_BLOCKING;
  if (peek32(sk, OFF_SK_RCVLOWAT) > 1)
    return ACCEL_REASON_LOW_WATER;
  if (peek64(sk, OFF_ICSK_ULP))
    return ACCEL_REASON_ULP;
  if ((s32)peek32(sk, OFF_SK_PEEK) >= 0)
    return ACCEL_REASON_PEEK_OFF;
  /* What these ask for comes with bytes of TCP only. */
  u64 flags = peek64(sk, OFF_SK_FLAGS);
  if (flags >> SOCK_ZEROCOPY_BIT & 1 || flags >> SOCK_RCVTSTAMP_BIT & 1 || peek32(sk, OFF_SK_TSFLAGS) ||
      peek8(sk, OFF_TP_INQ) >> BIT_TP_INQ & 1 || peek64(sk, OFF_SK_FILTER) ||
      peek64(sk, OFF_SK_MAX_PACING_RATE) != ~0ull /* no bound; what congestion control paces by is another field */)
    return ACCEL_REASON_OPTIONS;
  struct endpoint_key k = {.id = e->endpoint};
  struct caught *before = is_proxys ? 0 : caught.lookup(&k); /* what a pod's programs do says nothing of the proxy */
#ifndef PSOCK_NOT_IN_FIONREAD
  if (before && before->reason == ACCEL_REASON_COUNTS) {
    e->asks = 1; /* its first question would come too late */
    return ACCEL_REASON_ACTIVE;
  }
#endif
  return before ? before->reason : ACCEL_REASON_ACTIVE;
}

/* The packet's source is `e`; its peer is enrolled, or will be. */
static __always_inline void enrol(struct __sk_buff *skb, const struct packet *p, struct end *e, const struct end *peer,
                                  u32 nsid) {
  struct bpf_sock_tuple t = {};
  struct cookie_key ck = {.cookie = e->cookie};
  u32 size;
  if (peek64(e->sock, OFF_SK_USER_DATA)) { /* somebody else's psock, or another kernel user of the socket */
    e->reason = e->marked = ACCEL_REASON_FOREIGN;
    return;
  }
  /* A look-up names the socket's own address as the destination. */
  const u32 *l = (const u32 *)p->saddr, *r = (const u32 *)p->daddr;
  if (l[0] == 0 && l[1] == 0 && l[2] == bpf_htonl(0xffff)) {
    t.ipv4.saddr = r[3];
    t.ipv4.daddr = l[3];
    t.ipv4.sport = bpf_htons(p->dport);
    t.ipv4.dport = bpf_htons(p->sport);
    size = sizeof(t.ipv4);
  } else {
    __builtin_memcpy(t.ipv6.saddr, p->daddr, 16);
    __builtin_memcpy(t.ipv6.daddr, p->saddr, 16);
    t.ipv6.sport = bpf_htons(p->dport);
    t.ipv6.dport = bpf_htons(p->sport);
    size = sizeof(t.ipv6);
  }
  struct bpf_sock *sk = size == sizeof(t.ipv4) ? bpf_sk_lookup_tcp(skb, &t, sizeof(t.ipv4), nsid, 0)
                                               : bpf_sk_lookup_tcp(skb, &t, sizeof(t.ipv6), nsid, 0);
  if (!sk)
    return;
  /* Packets that come from now on are held back or seen to by held(): of what came before, an end whose program asks
   * FIONREAD must have nothing, neither unread nor under way. */
  int failed = 1;
  e->enrolled = 2;
  __sync_fetch_and_add(&e->tcp_msgs, 0); /* a fence: bpf/skmsg.c */
  if (e->asks && !drained(peer->sock, e->sock)) {
    e->enrolled = 0;
    bpf_sk_release(sk);
    return;
  }
  if ((u64)sk == e->sock)
    failed = socks.update(&ck, sk) != 0;
  bpf_sk_release(sk);
  if (failed) {
    e->enrolled = 0;
    e->reason = e->marked = ACCEL_REASON_ENROL_FAILED;
    count(METRIC_ENROL_FAILED, e->endpoint);
    return;
  }
  count(METRIC_ENROLLED_SOCKETS, e->endpoint);
  e->held = 0;
  e->reason = ACCEL_REASON_ACTIVE;
  e->enrolled = 1;
}

/* Called for each TCP packet that leaves a pod, or the node proxy: count it, and enrol its socket once both ends have
 * proved themselves. `proxys`: which of them is the proxy's. */
#define PROXYS_NEITHER 0
#define PROXYS_OWN 1
#define PROXYS_PEER 2

static __always_inline void consider(struct __sk_buff *skb, const struct packet *p, struct conn *c, struct end *e,
                                     struct end *peer, const struct config *cfg, int proxys) {
  if (!(c->flags & CONN_FLAG_CANDIDATE) || c->denied || e->enrolled)
    return;
  if (p->tcp_flags & (TCP_FIN | TCP_RST))
    return;
  u32 seen = ++e->packets;
  if (seen < cfg->probation_packets || e->marked || peer->marked || !e->cookie || !peer->cookie)
    return;
  struct endpoint *ep = endpoint_by_id(e->endpoint);
  if (!ep)
    return;
  u32 nsid = proxys == PROXYS_OWN ? cfg->proxy_nsid : ep->nsid;
  if (nsid == NSID_UNKNOWN)
    return;
  if (!(cfg->acceleration && cfg->self_test) && !(ep->flags & ENDPOINT_FLAG_SELF_TEST))
    return; /* switched off since the connection opened */
  struct endpoint *far = endpoint_by_id(peer->endpoint);
  if (!far)
    return;
  u32 flags = ep->flags & far->flags;
  if (!(flags & ENDPOINT_FLAG_ACCELERATE && flags & ENDPOINT_FLAG_UNSHAPED)) { /* since then, too */
    e->reason = flags & ENDPOINT_FLAG_ACCELERATE ? ACCEL_REASON_QUEUE : ACCEL_REASON_OPT_OUT;
    return;
  }
  /* A socket may be made blocking after it was accepted, and a program may ask FIONREAD: wait for a moment when this end
   * has read all there was, in the mode it is in now. */
  if (peek32(e->sock, OFF_TP_RCVNXT) != peek32(e->sock, OFF_TP_COPIED))
    return;
  /* What was against it once is likely to be so again, and looking is not free. */
  if ((e->reason != ACCEL_REASON_PROBATION ||
       (peer->reason != ACCEL_REASON_PROBATION && peer->reason != ACCEL_REASON_ACTIVE)) &&
      seen & 15)
    return;
  u8 why = reader_reason(e, proxys == PROXYS_OWN), why_peer = reader_reason(peer, proxys == PROXYS_PEER);
  if (why != ACCEL_REASON_ACTIVE || why_peer != ACCEL_REASON_ACTIVE) {
    e->reason = why == ACCEL_REASON_ACTIVE ? ACCEL_REASON_PROBATION : why;
    if (!peer->enrolled)
      peer->reason = why_peer == ACCEL_REASON_ACTIVE ? ACCEL_REASON_PROBATION : why_peer;
    return;
  }
  enrol(skb, p, e, peer, nsid);
}

/* Take one end's socket out of the sockhash: it is a plain TCP socket again. Nothing redirected may wait in it. */
static __always_inline void withdraw(struct end *e) {
  struct cookie_key ck = {.cookie = e->cookie};
  e->enrolled = 0;
  socks.delete(&ck);
  count(METRIC_WITHDRAWN_SOCKETS, e->endpoint);
}

/* Whether none of this end's redirects is under way. The kernel lets go of the sender's socket before it queues a message
 * at the reader, and it drops a message, without a word, whose reader has left the sockhash meanwhile. But a sender holds
 * its own psock all the time: the sockhash has one reference, each call inside a send or receive one more. */
static __always_inline int at_rest(const struct end *e) {
  if (!e->busy || freed(e))
    return 1; /* a socket that is freed has nobody inside */
  u64 psock = psock_of(e->sock);
  return !psock || (e->enrolled == 1 && peek32(psock, OFF_PSOCK_REFS) == 1);
}

/* Withdraw a marked end: a send that starts now sees the mark. */
static __always_inline void withdraw_when_idle(struct end *e, const struct end *peer) {
  if (e->enrolled == 1 && !freed(e) && at_rest(peer) && !psock_has_data(e->sock))
    withdraw(e);
}

/* A mark means that a program uses its socket in a way that a socket in the sockhash does not support. */
static __always_inline void withdraw_marked(struct end *a, struct end *b) {
  if (!(a->marked | b->marked) || !(a->enrolled | b->enrolled))
    return;
  withdraw_when_idle(a, b);
  withdraw_when_idle(b, a);
}

/* Whether no program has this end's socket any more: the kernel alone sends what it left. */
static __always_inline int gone(const struct end *e) {
  return freed(e) || peek64(e->sock, OFF_SK_FLAGS) >> SOCK_DEAD_BIT & 1;
}

/* Whether this end's program has said that it has no more to send: what it sent before may still be on its way. */
static __always_inline int said_all(const struct end *e) {
  u8 state = peek8(e->sock, OFF_SKC_STATE);
  return state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT;
}

#define HOLD_LIMIT_NS 30000000000ull
#define SHORT_HOLD_NS 1000000000ull
#define LAST_HOLD_NS 2400000000ull
#define USUAL_RETRIES 15 /* net.ipv4.tcp_retries2 */
#define DOUBLINGS 4      /* of TCP's timer from 200 ms until it is RTO_MAX_MS (bpf/prepare.h) */
#define ORPHAN_RETRIES 8 /* tcp_orphan_retries of net/ipv4/tcp_timer.c, where net.ipv4.tcp_orphan_retries is 0 */

/* How long a packet of this end may be held: its own kernel must not give it up for that. Where a program
 * (TCP_USER_TIMEOUT) or a pod (tcp_retries2) wants to know sooner than usual whether its peer is there, a quarter of the
 * time after which TCP gives up (tcp_model_timeout of net/ipv4/tcp_timer.c): the packet is sent again at twice the age.
 * After its program's last word, closed or shut down, the timer doubles to the end (patient() of bpf/prepare.h): that the
 * reader does not wait for seconds after it has read on, it is not held for long then. */
static __always_inline u64 patience(const struct end *sender) {
  if (freed(sender))
    return SHORT_HOLD_NS;
  u64 limit = HOLD_LIMIT_NS, net = peek64(sender->sock, OFF_SKC_NET);
  u32 timeout_ms = peek32(sender->sock, OFF_ICSK_USER_TIMEOUT), retries;
  if (gone(sender)) {
    retries = net ? peek8(net, OFF_NET_TCP_ORPHAN_RETRIES) : 0;
    if (!retries || retries > ORPHAN_RETRIES)
      retries = ORPHAN_RETRIES;
    limit = ((2ull << retries) - 1) * 50000000ull;
  } else {
    retries = net ? peek8(net, OFF_NET_TCP_RETRIES2) : USUAL_RETRIES;
    if (retries < USUAL_RETRIES) {
      u32 doublings = retries < DOUBLINGS ? retries : DOUBLINGS;
      limit = ((2ull << doublings) - 1) * 50000000ull + (retries - doublings) * 1000000000ull;
    }
  }
  if (timeout_ms && timeout_ms * 250000ull < limit)
    limit = timeout_ms * 250000ull;
  if (limit > LAST_HOLD_NS && said_all(sender))
    limit = LAST_HOLD_NS;
  return limit;
}

#define MOVED_SHIFT 20 /* of struct end's `moved` */

/* Whether packets to this end have waited long enough. Nobody must be taken for dead, so no longer than its peer's kernel
 * stands; and where that has no more to say, nobody waits for a reader that stays away. One that reads on, however slowly,
 * will come to the end, and for one that is stuck the agent will soon end the connection. */
static __always_inline int waited(struct end *e, const struct end *sender, int is_brief) {
  u64 since = *(volatile u64 *)&e->held, now = bpf_ktime_get_ns(); /* in this order: another core may set it meanwhile */
  u32 left = unread_sign(e->sock);
  if (!since) {
    e->held = now;
    e->left = left;
    e->moved = 0;
    return 0;
  }
  s32 after = (now - since) >> MOVED_SHIFT;
  if (left != e->left) {
    e->left = left;
    e->moved = after;
  }
  return now - since > patience(sender) ||
         (is_brief && !e->stuck && after - (s32)e->moved > (s32)(SHORT_HOLD_NS >> MOVED_SHIFT));
}

/* Whether a packet must wait: bytes that came over TCP must not be in the receiver's queue beside redirected ones that
 * are older and unread. A program that splices would be given them first, a peek would not see past the older, and who
 * takes a short read for an empty queue (epoll(7)) would never come back for them. Nor must the end of the stream: a
 * splice would take it for the end of all bytes. TCP sends the packet again. A reader that stays away for half a minute,
 * or a second when its peer has no more to say, gets TCP's own ways. */
static __always_inline int held(struct end *e, const struct end *sender, const struct packet *p) {
  u64 sk = e->sock;
  if (!e->enrolled || e->closed == CLOSED_SOCKET || freed(e))
    return 0;
  if (p->tcp_flags & TCP_RST) { /* what its program does next, TCP should answer */
    withdraw_when_idle(e, sender);
    return 0;
  }
  if (!p->payload && !(p->tcp_flags & TCP_FIN))
    return 0;
  int is_brief = !p->payload || gone(sender);
  if (!psock_has_data(sk)) {
    int needs = p->payload && (e->asks | e->marked || !peek64(sk, OFF_TP_RECEIVED));
    /* What it has already is no news to it, and to its peer no sign that a redirect waits for these bytes. */
    if (!needs || (s32)(p->seq + p->payload - peek32(sk, OFF_TP_RCVNXT)) <= 0)
      goto pass;
    if (e->enrolled == 1 && at_rest(sender)) {
      if (!psock_has_data(sk)) {
        withdraw(e);
        goto pass;
      }
    } else if (e->marked || !e->asks) {
      goto pass; /* TCP's bytes do it no harm */
    }
    is_brief = 1;
  }
  if (waited(e, sender, is_brief))
    return 0;
  count(METRIC_HELD_PACKETS, e->endpoint);
  return 1;

pass:
  if (e->held)
    e->held = 0;
  return 0;
}
