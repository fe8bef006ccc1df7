/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The life of a TCP connection whose socket lives in an enrolled endpoint: one record for both ends in `conns`, an OPEN
 * event by the end that connected, a CLOSE event by the end that closes last.
 */
#include "flow.h"
#include "kernel.h"

#define TCP_CLOSE_STATE 7
#define SOCK_DONE_BIT 1 /* enum sock_flags (include/net/sock.h): a FIN has come in */

static __always_inline int is_multipath(u64 sk) {
#ifdef OFF_TP_IS_MPTCP
  return peek8(sk, OFF_TP_IS_MPTCP) >> BIT_TP_IS_MPTCP & 1;
#else
  return 0;
#endif
}

static __always_inline u8 why_not(const struct config *cfg, const struct pair *p, const struct conn_key *k) {
  if (!(p->src_flags & p->dst_flags & ENDPOINT_FLAG_SELF_TEST)) {
    if (!cfg->acceleration)
      return ACCEL_REASON_OFF;
    if (!cfg->self_test)
      return ACCEL_REASON_SELF_TEST;
  }
  if (addr_is_loopback(k->addr0) || p->src_endpoint == p->dst_endpoint)
    return ACCEL_REASON_LOOPBACK;
  if (!p->src_endpoint || !p->dst_endpoint)
    return ACCEL_REASON_PEER_REMOTE;
  if (!pair_allowed(p) || p->egress.verdict != VERDICT_ALLOW || p->ingress.verdict != VERDICT_ALLOW)
    return ACCEL_REASON_DENIED;
  if (!(p->src_flags & ENDPOINT_FLAG_ACCELERATE) || !(p->dst_flags & ENDPOINT_FLAG_ACCELERATE))
    return ACCEL_REASON_OPT_OUT;
  return ACCEL_REASON_PROBATION;
}

static __always_inline void event_conn(struct flow_event *e, const struct conn *c, const struct conn_key *k) {
  int from = c->flags & CONN_FLAG_INITIATOR_1 ? 1 : 0;
  if (from) {
    __builtin_memcpy(e->saddr, k->addr1, 16);
    __builtin_memcpy(e->daddr, k->addr0, 16);
    e->sport = k->port1;
    e->dport = k->port0;
    e->src_identity = c->identity[1];
    e->dst_identity = c->identity[0];
    e->src_endpoint = c->endpoint[1];
    e->dst_endpoint = c->endpoint[0];
    e->accel_reason[0] = c->reason[1];
    e->accel_reason[1] = c->reason[0];
    e->cookie = c->cookie[1] ? c->cookie[1] : c->cookie[0];
  } else {
    __builtin_memcpy(e->saddr, k->addr0, 16);
    __builtin_memcpy(e->daddr, k->addr1, 16);
    e->sport = k->port0;
    e->dport = k->port1;
    e->src_identity = c->identity[0];
    e->dst_identity = c->identity[1];
    e->src_endpoint = c->endpoint[0];
    e->dst_endpoint = c->endpoint[1];
    e->accel_reason[0] = c->reason[0];
    e->accel_reason[1] = c->reason[1];
    e->cookie = c->cookie[0] ? c->cookie[0] : c->cookie[1];
  }
  e->proto = IPPROTO_TCP;
  e->verdict = c->denied ? VERDICT_DENY : VERDICT_ALLOW;
  e->accel = c->used[0] | c->used[1];
  e->egress_rule = c->egress_rule;
  e->ingress_rule = c->ingress_rule;
  e->flags = conn_flags(c);
}

static __always_inline int opened(struct bpf_sock_ops *s, int active) {
  struct tuple t ALIGNED = {};
  struct conn_key k ALIGNED = {};
  struct netns_key nk = {.cookie = bpf_get_netns_cookie(s)};
  struct endpoint_ref *ref = endpoint_netns.lookup(&nk);
  if (!ref)
    return 0;
  READ_TUPLE(s, &t);
  if (addr_is_loopback(t.local))
    return 0; /* a pod's own loopback: no policy covers it, and two pods may use the same addresses */
  /* The socket's address must be its own endpoint's: a privileged pod can forge a connection (TCP_REPAIR). */
  if (endpoint_id_by_addr(t.local) != ref->id)
    return 0;
  struct config *cfg = get_config();
  if (!cfg)
    return 0;
  /* Asked first, though an end that joins needs it only for its metrics: the verifier would otherwise walk the look-ups
   * once for every way the rest can go. */
  struct pair p;
  if (active)
    ask_pair(&p, t.local, t.remote, IPPROTO_TCP, t.remote_port);
  else
    ask_pair(&p, t.remote, t.local, IPPROTO_TCP, t.local_port);
  int side = conn_side(&k, t.local, t.remote, t.local_port, t.remote_port);
  u64 cookie = bpf_get_socket_cookie(s);
  u64 sk = 0;
  struct bpf_sock *bsk = s->sk;
  u64 program = 0;
  if (bsk) {
    sk = (u64)bpf_skc_to_tcp_sock(bsk);
    struct sock_mark *m = sock_marks.sk_storage_get(bsk, 0, 0);
    if (m)
      program = m->program;
  }
  bpf_sock_ops_cb_flags_set(s, s->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);

  struct conn *c = conns.lookup(&k);
  if (c && !(side ? c->cookie[1] : c->cookie[0])) {
    /* the other end came first: join it */
    if (side) {
      c->sock[1] = sk;
      c->program[1] = program;
      c->cookie[1] = cookie;
    } else {
      c->sock[0] = sk;
      c->program[0] = program;
      c->cookie[0] = cookie;
    }
  } else {
    struct conn fresh = {};
    fresh.opened = bpf_ktime_get_ns();
    fresh.generation = cfg->generation;
    fresh.egress_rule = p.egress.rule_id;
    fresh.ingress_rule = p.ingress.rule_id;
    int initiator = active ? side : !side;
    if (initiator) {
      fresh.flags |= CONN_FLAG_INITIATOR_1;
      fresh.endpoint[1] = p.src_endpoint;
      fresh.endpoint[0] = p.dst_endpoint;
      fresh.identity[1] = p.src_identity;
      fresh.identity[0] = p.dst_identity;
    } else {
      fresh.endpoint[0] = p.src_endpoint;
      fresh.endpoint[1] = p.dst_endpoint;
      fresh.identity[0] = p.src_identity;
      fresh.identity[1] = p.dst_identity;
    }
    if (side) {
      fresh.sock[1] = sk;
      fresh.program[1] = program;
      fresh.cookie[1] = cookie;
    } else {
      fresh.sock[0] = sk;
      fresh.program[0] = program;
      fresh.cookie[0] = cookie;
    }
    u8 why = why_not(cfg, &p, &k);
    if (why == ACCEL_REASON_PROBATION)
      fresh.flags |= CONN_FLAG_CANDIDATE;
    fresh.denied = !pair_allowed(&p);
    fresh.reason[0] = why;
    fresh.reason[1] = why;
    if (conns.update(&k, &fresh)) {
      count(METRIC_CONNS_MAP_FULL);
      /* still on record: the event below needs no map entry */
    }
    struct flow_event *e = event_new(EVENT_TYPE_OPEN, HOOK_SOCKOPS);
    if (e) {
      event_conn(e, &fresh, &k);
      e->verdict = pair_allowed(&p) ? VERDICT_ALLOW : VERDICT_DENY;
      events.ringbuf_submit(e, EVENT_QUIET);
    }
    count(METRIC_CONNECTIONS_OPENED);
    c = conns.lookup(&k);
  }
  if (!c)
    return 0;
  if (sk && is_multipath(sk)) {
    c->marked[0] = c->marked[1] = ACCEL_REASON_MPTCP;
    c->reason[0] = c->reason[1] = ACCEL_REASON_MPTCP;
  }
  return 0;
}

static __always_inline int closed(struct bpf_sock_ops *s) {
  struct tuple t ALIGNED = {};
  struct conn_key k ALIGNED = {};
  READ_TUPLE(s, &t);
  int side = conn_side(&k, t.local, t.remote, t.local_port, t.remote_port);
  struct conn *c = conns.lookup(&k);
  if (!c)
    return 0;
  u64 cookie = bpf_get_socket_cookie(s);
  if ((side ? c->cookie[1] : c->cookie[0]) != cookie)
    return 0; /* the entry is a later connection's */
  /* The sequence numbers count a FIN as a byte: taken off where one came in (SOCK_DONE). What was sent is known
   * exactly: tcp_sock counts payload as it leaves. */
  u64 sk = side ? c->sock[1] : c->sock[0];
  u64 received = s->bytes_received - (peek64(sk, OFF_SK_FLAGS) >> SOCK_DONE_BIT & 1);
  u64 sent = peek64(sk, OFF_TP_BYTES_SENT) - peek64(sk, OFF_TP_BYTES_RETRANS);
  if (side) {
    c->tcp_sent[1] = sent;
    c->tcp_received[1] = received;
    c->closed[1] = 1;
  } else {
    c->tcp_sent[0] = sent;
    c->tcp_received[0] = received;
    c->closed[0] = 1;
  }
  u32 flags = c->flags;
  /* When both ends close at the same instant each may miss the other's byte; the agent's sweep then finds the record. */
  if ((c->cookie[0] && !c->closed[0]) || (c->cookie[1] && !c->closed[1]))
    return 0;
  struct flow_event *e = event_new(EVENT_TYPE_CLOSE, HOOK_SOCKOPS);
  if (e) {
    event_conn(e, c, &k);
    int from = flags & CONN_FLAG_INITIATOR_1 ? 1 : 0;
    /* What arrived is what counts, so each direction is taken from its receiver where that is ours. */
    u64 rx0 = c->tcp_received[0], rx1 = c->tcp_received[1];
    u64 to0 = c->cookie[0] ? rx0 : c->tcp_sent[1], to1 = c->cookie[1] ? rx1 : c->tcp_sent[0];
    e->tx_redirected = from ? c->redirect_bytes[1] : c->redirect_bytes[0];
    e->rx_redirected = from ? c->redirect_bytes[0] : c->redirect_bytes[1];
    e->tx_bytes = (from ? to0 : to1) + e->tx_redirected;
    e->rx_bytes = (from ? to1 : to0) + e->rx_redirected;
    e->duration = bpf_ktime_get_ns() - c->opened;
    events.ringbuf_submit(e, EVENT_QUIET);
  }
  count(METRIC_CONNECTIONS_CLOSED);
  conns.delete(&k);
  return 0;
}

int sockops(struct bpf_sock_ops *s) {
  switch (s->op) {
  case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
    return opened(s, 1);
  case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
    return opened(s, 0);
  case BPF_SOCK_OPS_STATE_CB:
    if (s->args[1] == TCP_CLOSE_STATE)
      return closed(s);
  }
  return 0;
}

/* cgroup sock_create: remember which executable made a socket. Accepted sockets inherit their listener's memory. */
int sock_create(struct bpf_sock *sk) {
  if (sk->type != 1 /* SOCK_STREAM */)
    return 1;
  u64 inode = current_program();
  struct sock_mark *m = sock_marks.sk_storage_get(sk, 0, 1 /* BPF_SK_STORAGE_GET_F_CREATE */);
  if (m)
    m->program = inode;
  return 1;
}
