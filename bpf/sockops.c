/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The life of a TCP connection whose socket lives in an enrolled endpoint: one record for both ends in `conns`, an OPEN
 * event by the end that connected, a CLOSE event by the end that closes last, or a FAILED one where nobody took the call.
 */
#include "ends.h"
#include "prepare.h"

#define OF_POD 1
#define OF_PROXY 2

static __always_inline u32 flags_at(const u8 *addr) {
  u32 id = endpoint_id_by_addr(addr);
  struct endpoint *ep = id ? endpoint_by_id(id) : 0;
  return ep ? ep->flags | ENDPOINT_FLAG_ENROLLED : 0;
}

/* Whether a socket of the node proxy's namespace stands for a pod of this node towards another one. Where sock_ops hears
 * of neither's sockets, the packet hooks have put the connection on record. */
static __always_inline int is_of_proxy(u64 netns, const struct tuple *t) {
  struct config *cfg = get_config();
  if (!cfg || !netns || cfg->proxy_netns != netns)
    return 0;
  u32 local = flags_at(t->local), remote = flags_at(t->remote);
  return local && remote && (local | remote) & ENDPOINT_FLAG_HAS_CGROUP ? OF_PROXY : 0;
}

/* Read a socket's addresses; whether it is a connection of an endpoint of this node: OF_POD, OF_PROXY or 0. */
static __always_inline int is_ours(struct bpf_sock_ops *s, struct tuple *t) {
  struct netns_key nk = {.cookie = bpf_get_netns_cookie(s)};
  struct endpoint_ref *ref = endpoint_netns.lookup(&nk);
  READ_TUPLE(s, t);
  if (!ref)
    return is_of_proxy(nk.cookie, t);
  if (addr_is_loopback(t->local))
    return 0; /* a pod's own loopback: no policy covers it, and two pods may use the same addresses */
  /* The socket's address must be its own endpoint's: a privileged pod can forge a connection (TCP_REPAIR). */
  return endpoint_id_by_addr(t->local) == ref->id;
}

/* Have the socket's end told to sockops(), and what its retransmission timer does. */
#define WATCHED (BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG)

static __always_inline int watch(struct bpf_sock_ops *s) {
  u32 flags = s->bpf_sock_ops_cb_flags;
  if ((flags & WATCHED) != WATCHED)
    bpf_sock_ops_cb_flags_set(s, flags | WATCHED);
  return 0;
}

static __always_inline u64 tcp_sock_of(struct bpf_sock_ops *s) {
  struct bpf_sock *sk = s->sk;
  return sk ? (u64)bpf_skc_to_tcp_sock(sk) : 0;
}

/* What the packet hook of an end's pod knows: which rule let the connection pass, and when. */
static __always_inline void adopt(struct conn *c, struct end *e, struct ct_entry *known) {
  if (known) {
    known->flags |= CT_FLAG_TRACKED;
    e->rule = known->rule_id;
    if (known->flags & CT_FLAG_TO_PROXY)
      c->flags |= CONN_FLAG_TO_PROXY;
    else if (known->flags & CT_FLAG_FROM_PROXY)
      c->flags |= CONN_FLAG_FROM_PROXY;
    else
      e->judged = known->generation; /* else each packet is looked at: where it goes hangs on whose it is */
  }
}

/* Take a connection's record out of the map and tell of its end. Both ends, or the agent, may be at it at once: whoever
 * takes it out tells. */
static __always_inline void end_record(const struct conn *c, struct conn_key *k) {
  int began = initiator(c);
  const struct end *from = END_OF(c, began), *to = END_OF(c, !began);
  u32 who = from->endpoint;
  struct flow_event *e = event_new(EVENT_TYPE_CLOSE, HOOK_SOCKOPS);
  if (e) {
    event_conn(e, c, k);
    /* What arrived is what counts, so each direction is taken from its receiver where that is ours. */
    e->tx_redirected = from->redirect_bytes;
    e->rx_redirected = to->redirect_bytes;
    e->tx_bytes = (to->cookie ? to->tcp_received : from->tcp_sent) + e->tx_redirected;
    e->rx_bytes = (from->cookie ? from->tcp_received : to->tcp_sent) + e->rx_redirected;
    e->duration = bpf_ktime_get_ns() - c->opened;
    if (conns.delete(k)) { /* here and not after both branches: kernel 6.1 would lose sight of who has the event */
      bpf_ringbuf_discard(e, EVENT_QUIET);
      return;
    }
    events.ringbuf_submit(e, EVENT_QUIET);
  } else if (conns.delete(k)) {
    return;
  }
  count(METRIC_CONNECTIONS_CLOSED, who);
}

/* The other end came first. Returns 0 where this end has been there as well, as another socket: the record is an earlier
 * connection's. The same socket may come twice: where the hooks hang on its cgroup and on one around it. */
static __always_inline int join(struct bpf_sock_ops *s, struct conn *c, int side, u64 sk, u64 cookie) {
  struct end *mine = END_OF(c, side);
  if (mine->cookie)
    return mine->cookie == cookie;
  mine->sock = sk;
  mine->cookie = cookie;
  if (sk && is_multipath(sk)) {
    c->end[0].marked = c->end[1].marked = ACCEL_REASON_MPTCP;
    c->end[0].reason = c->end[1].reason = ACCEL_REASON_MPTCP;
  }
  if (sk && was_disconnected(sk))
    mine->marked = mine->reason = ACCEL_REASON_USED_AGAIN;
  if (sk && c->flags & CONN_FLAG_CANDIDATE)
    prepare(s, sk);
  return 1;
}

static __always_inline int opened(struct bpf_sock_ops *s, struct tuple *t, int active) {
  struct conn_key k ALIGNED;
  if (!is_ours(s, t))
    return 0;
  struct config *cfg = get_config();
  if (!cfg)
    return 0;
  watch(s); /* again: its call may have begun before this program was there */
  int side = conn_side(&k, t->local, t->remote, t->local_port, t->remote_port);
  u64 cookie = bpf_get_socket_cookie(s), sk = tcp_sock_of(s);
  struct conn *c = conns.lookup(&k);
  if (c) {
    if (join(s, c, side, sk, cookie))
      return 0;
    end_record(c, &k); /* of an earlier connection, whose other end nobody heard of */
  }
  struct conn fresh = {.opened = bpf_ktime_get_ns()};
  int began = active ? side : !side;
  struct end *from = END_OF(&fresh, began), *to = END_OF(&fresh, !began);
  const u8 *src = active ? t->local : t->remote, *dst = active ? t->remote : t->local;
  u16 sport = active ? t->local_port : t->remote_port, dport = active ? t->remote_port : t->local_port;
  u32 flags = look_up_end(from, src);
  flags &= look_up_end(to, dst);
  struct ct_entry *in = ct_find(src, dst, sport, dport, to->endpoint, DIRECTION_INGRESS);
  if (!active && in && in->flags & CT_FLAG_TRACKED)
    return 0; /* its other end opened and ended it before this one heard that it is open: it is on record */
  adopt(&fresh, to, in);
  adopt(&fresh, from, ct_find(src, dst, sport, dport, from->endpoint, DIRECTION_EGRESS));
  if (began)
    fresh.flags |= CONN_FLAG_INITIATOR_1;
  u8 why = why_not(cfg, from, to, flags);
  if (why == ACCEL_REASON_PROBATION) {
    fresh.flags |= CONN_FLAG_CANDIDATE;
    if (cfg->direct_delivery && flags & ENDPOINT_FLAG_DIRECT)
      fresh.flags |= CONN_FLAG_DIRECT;
  }
  if (sk && is_multipath(sk))
    from->marked = to->marked = why = ACCEL_REASON_MPTCP;
  from->reason = to->reason = why;
  struct end *mine = active ? from : to;
  mine->sock = sk;
  mine->cookie = cookie;
  if (sk && was_disconnected(sk) && !mine->marked)
    mine->marked = mine->reason = ACCEL_REASON_USED_AGAIN;
  int full = conns.insert(&k, &fresh) != 0;
  c = full ? conns.lookup(&k) : 0;
  if (c && join(s, c, side, sk, cookie))
    return 0; /* both called at once (RFC 9293 3.5), and the other end came between */
  if (full) {
    count(METRIC_CONNS_MAP_FULL, from->endpoint);
    if (!active && from->endpoint)
      return 0; /* the end that connected tells of it: still on record, for the event needs no map entry */
  }
  struct flow_event *event = event_new(EVENT_TYPE_OPEN, HOOK_SOCKOPS);
  if (event) {
    event_conn(event, &fresh, &k);
    events.ringbuf_submit(event, EVENT_QUIET);
  }
  count(METRIC_CONNECTIONS_OPENED, from->endpoint);
  if (sk && !full && fresh.flags & CONN_FLAG_CANDIDATE)
    prepare(s, sk);
  return 0;
}

/* The packet hooks pass an open connection without looking at its conntrack entry, so its end is told to it here. */
static __always_inline void ct_closing(struct ct_entry *e) {
  if (e) {
    e->last_seen = bpf_ktime_get_ns();
    e->flags |= CT_FLAG_CLOSING;
  }
}

/* A program may end a connection and use its socket for another (connect(2), AF_UNSPEC): its redirected bytes must not be
 * the first that the next one reads, so the socket leaves the sockhash, and its queue with it. Kernels that do not count
 * what was ended so do not say either that this is why a socket closes; but nobody else does it without an error before
 * both sides have ended, and who has ended his side before is seen to when he calls, or listens. */
static __always_inline int is_disconnect(struct bpf_sock_ops *s) {
#ifdef OFF_SK_DISCONNECTS
  u64 sk = tcp_sock_of(s);
  return sk && was_disconnected(sk);
#else
  u64 sk = s->args[0] == BPF_TCP_ESTABLISHED || s->args[0] == BPF_TCP_CLOSE_WAIT ? tcp_sock_of(s) : 0;
  return sk && !peek32(sk, OFF_SK_ERR);
#endif
}

static __always_inline int leave(struct bpf_sock_ops *s) {
  u64 sk = tcp_sock_of(s);
  struct cookie_key ck = {.cookie = bpf_get_socket_cookie(s)};
  return sk && peek64(sk, OFF_SK_USER_DATA) && !socks.delete(&ck);
}

/* Both ends have shut down, but the last word of this one was held back (held() of bpf/enrol.h), and it goes away by a
 * reset, which TCP does not send that late: the other end would wait for ever. So the agent tells it; what waits there can
 * be read all the same. */
static __always_inline void abandoned(struct conn *c, const struct conn_key *k, struct end *peer, int side) {
  if (!peer->cookie || peer->closed || !peer->enrolled || peer->stuck || freed(peer))
    return;
  u8 state = peek8(peer->sock, OFF_SKC_STATE);
  if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_FIN_WAIT1 && state != BPF_TCP_FIN_WAIT2)
    return; /* it has heard the end */
  if (peek64(peer->sock, OFF_SK_FLAGS) >> SOCK_DONE_BIT & 1)
    return; /* it is hearing it: TCP answers a FIN before it moves on */
  struct flow_event *e = event_new(EVENT_TYPE_STUCK, HOOK_SOCKOPS);
  if (!e)
    return;
  peer->stuck = 1;
  event_conn(e, c, k);
  e->direction = side == initiator(c) ? DIRECTION_INGRESS : DIRECTION_EGRESS; /* EGRESS: the source is the reader */
  e->reason = ACCEL_REASON_ABANDONED;
  e->cookie = peer->cookie;
  events.ringbuf_submit(e, EVENT_URGENT);
}

static __always_inline int closed(struct bpf_sock_ops *s, struct tuple *t) {
  struct conn_key k ALIGNED;
  int left = is_disconnect(s) && leave(s);
  READ_TUPLE(s, t);
  int side = conn_side(&k, t->local, t->remote, t->local_port, t->remote_port);
  struct conn *c = conns.lookup(&k);
  if (!c)
    return 0;
  struct end *mine = END_OF(c, side), *peer = END_OF(c, !side);
  if (mine->cookie != bpf_get_socket_cookie(s))
    return 0; /* the entry is a later connection's */
  if (left) {
    mine->enrolled = 0;
    count(METRIC_WITHDRAWN_SOCKETS, mine->endpoint);
  }
  /* The sequence numbers count a FIN as a byte: taken off where one came in (SOCK_DONE). What was sent is known
   * exactly: tcp_sock counts payload as it leaves. */
  mine->tcp_sent = peek64(mine->sock, OFF_TP_BYTES_SENT) - peek64(mine->sock, OFF_TP_BYTES_RETRANS);
  mine->tcp_received = s->bytes_received - (peek64(mine->sock, OFF_SK_FLAGS) >> SOCK_DONE_BIT & 1);
  mine->closed = CLOSED_SOCKET;
  if (s->args[0] == BPF_TCP_CLOSING || s->args[0] == BPF_TCP_LAST_ACK)
    abandoned(c, &k, peer, side);
  __sync_fetch_and_add(&mine->tcp_msgs, 0); /* a fence: of two ends that close at once, one at least sees the other's */
  if (peer->cookie && !peer->closed)
    return 0;
  int began = initiator(c);
  u32 from = END_OF(c, began)->endpoint, to = END_OF(c, !began)->endpoint;
  const u8 *src = began ? k.addr1 : k.addr0, *dst = began ? k.addr0 : k.addr1;
  u16 sport = began ? k.port1 : k.port0, dport = began ? k.port0 : k.port1;
  end_record(c, &k);
  ct_closing(ct_find(src, dst, sport, dport, from, DIRECTION_EGRESS));
  ct_closing(ct_find(src, dst, sport, dport, to, DIRECTION_INGRESS));
  return 0;
}

/* A call came to its end before it was taken. Where policy is against it, the hook that refused it has told of it. */
static __always_inline int failed(struct bpf_sock_ops *s, struct tuple *t) {
  struct pair p;
  if (is_ours(s, t) != OF_POD) /* the proxy tells itself of a server that it could not reach */
    return 0;
  ask_pair(&p, t->local, t->remote, IPPROTO_TCP, t->remote_port, 0);
  if (!pair_allowed(&p)) {
    struct ct_entry *passed = ct_find(t->local, t->remote, t->local_port, t->remote_port, p.src_endpoint, DIRECTION_EGRESS);
    if (!passed)
      return 0;
    p.egress.rule_id = passed->rule_id; /* its SYN had gone before policy turned against it */
    p.ingress.rule_id = 0;
  }
  count(METRIC_FAILED_CALLS, p.src_endpoint);
  struct flow_event *e = event_new(EVENT_TYPE_FAILED, HOOK_SOCKOPS);
  if (!e)
    return 0;
  event_pair(e, &p);
  __builtin_memcpy(e->saddr, t->local, 16);
  __builtin_memcpy(e->daddr, t->remote, 16);
  e->sport = t->local_port;
  e->dport = t->remote_port;
  e->proto = IPPROTO_TCP;
  e->verdict = VERDICT_ALLOW;
  e->cookie = bpf_get_socket_cookie(s);
  u64 sk = tcp_sock_of(s);
  e->reason = sk ? peek32(sk, OFF_SK_ERR) : 0;
  if (sk && !e->reason)
    e->reason = peek32(sk, OFF_SK_ERR_SOFT); /* what an ICMP error said, perhaps for a while only */
  events.ringbuf_submit(e, EVENT_QUIET);
  return 0;
}

int sockops(struct bpf_sock_ops *s) {
  struct tuple t ALIGNED; /* one for all: the stack is small */
  switch (s->op) {
  case BPF_SOCK_OPS_TCP_LISTEN_CB:
    leave(s);
    return 0;
  case BPF_SOCK_OPS_TCP_CONNECT_CB:
    leave(s);
    return watch(s);
  case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
    return opened(s, &t, 1);
  case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
    return opened(s, &t, 0);
  case BPF_SOCK_OPS_RTO_CB:
    return late(s, &t);
  case BPF_SOCK_OPS_STATE_CB:
    if (s->args[1] == BPF_TCP_CLOSE)
      return s->args[0] == BPF_TCP_SYN_SENT ? failed(s, &t) : closed(s, &t);
    if (s->args[1] == BPF_TCP_FIN_WAIT1 || s->args[1] == BPF_TCP_LAST_ACK)
      return patient(s, &t);
  }
  return 0;
}
