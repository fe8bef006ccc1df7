/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The life of a TCP connection whose socket lives in an enrolled endpoint: one record for both ends in `conns`, an OPEN
 * event by the end that connected, a CLOSE event by the end that closes last.
 */
#include "ends.h"
#include "prepare.h"

#define TCP_CLOSE_STATE 7

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
  int side = conn_side(&k, t.local, t.remote, t.local_port, t.remote_port);
  u64 cookie = bpf_get_socket_cookie(s);
  u64 sk = 0;
  struct bpf_sock *bsk = s->sk;
  if (bsk)
    sk = (u64)bpf_skc_to_tcp_sock(bsk);
  bpf_sock_ops_cb_flags_set(
      s, s->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG);

  int multipath = sk && is_multipath(sk);
  u32 candidate;
  struct conn *c = conns.lookup(&k);
  if (c && !(side ? c->cookie[1] : c->cookie[0])) {
    /* The other end came first: join it. */
    if (side) {
      c->sock[1] = sk;
      c->cookie[1] = cookie;
    } else {
      c->sock[0] = sk;
      c->cookie[0] = cookie;
    }
    candidate = c->flags & CONN_FLAG_CANDIDATE;
    if (multipath) {
      c->marked[0] = c->marked[1] = ACCEL_REASON_MPTCP;
      c->reason[0] = c->reason[1] = ACCEL_REASON_MPTCP;
    }
  } else {
    struct conn fresh = {};
    struct ends e;
    u8 src[16] ALIGNED, dst[16] ALIGNED;
    u16 sport = active ? t.local_port : t.remote_port, dport = active ? t.remote_port : t.local_port;
    __builtin_memcpy(src, active ? t.local : t.remote, 16);
    __builtin_memcpy(dst, active ? t.remote : t.local, 16);
    look_up_end(&e, 0, src);
    look_up_end(&e, 1, dst);
    u32 out = 0, in = 0;
    struct ct_entry *ct_out = ct_find(src, dst, sport, dport, e.id[0], DIRECTION_EGRESS);
    if (ct_out) {
      ct_out->flags |= CT_FLAG_TRACKED;
      fresh.egress_rule = ct_out->rule_id;
      out = ct_out->generation;
    }
    struct ct_entry *ct_in = ct_find(src, dst, sport, dport, e.id[1], DIRECTION_INGRESS);
    if (ct_in) {
      ct_in->flags |= CT_FLAG_TRACKED;
      fresh.ingress_rule = ct_in->rule_id;
      in = ct_in->generation;
    }
    fresh.opened = bpf_ktime_get_ns();
    u8 why = why_not(cfg, &e);
    if (why == ACCEL_REASON_PROBATION) {
      fresh.flags |= CONN_FLAG_CANDIDATE;
      if (cfg->direct_delivery && e.flags[0] & e.flags[1] & ENDPOINT_FLAG_DIRECT)
        fresh.flags |= CONN_FLAG_DIRECT;
    }
    candidate = fresh.flags & CONN_FLAG_CANDIDATE;
    if (multipath)
      fresh.marked[0] = fresh.marked[1] = why = ACCEL_REASON_MPTCP;
    fresh.reason[0] = why;
    fresh.reason[1] = why;
    if (active ? side : !side) {
      fresh.flags |= CONN_FLAG_INITIATOR_1;
      fresh.endpoint[1] = e.id[0];
      fresh.endpoint[0] = e.id[1];
      fresh.identity[1] = e.identity[0];
      fresh.identity[0] = e.identity[1];
      fresh.judged[1] = out;
      fresh.judged[0] = in;
    } else {
      fresh.endpoint[0] = e.id[0];
      fresh.endpoint[1] = e.id[1];
      fresh.identity[0] = e.identity[0];
      fresh.identity[1] = e.identity[1];
      fresh.judged[0] = out;
      fresh.judged[1] = in;
    }
    if (side) {
      fresh.sock[1] = sk;
      fresh.cookie[1] = cookie;
    } else {
      fresh.sock[0] = sk;
      fresh.cookie[0] = cookie;
    }
    if (conns.update(&k, &fresh)) {
      count(METRIC_CONNS_MAP_FULL, e.id[0]);
      candidate = 0;
      if (!active && e.id[0])
        return 0; /* the end that connected tells of it: still on record, for the event needs no map entry */
    }
    struct flow_event *event = event_new(EVENT_TYPE_OPEN, HOOK_SOCKOPS);
    if (event) {
      event_conn(event, &fresh, &k);
      events.ringbuf_submit(event, EVENT_QUIET);
    }
    count(METRIC_CONNECTIONS_OPENED, e.id[0]);
  }
  if (sk && candidate)
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
  count(METRIC_CONNECTIONS_CLOSED, c->endpoint[0]);
  if (flags & CONN_FLAG_INITIATOR_1) {
    ct_closing(ct_find(k.addr1, k.addr0, k.port1, k.port0, c->endpoint[1], DIRECTION_EGRESS));
    ct_closing(ct_find(k.addr1, k.addr0, k.port1, k.port0, c->endpoint[0], DIRECTION_INGRESS));
  } else {
    ct_closing(ct_find(k.addr0, k.addr1, k.port0, k.port1, c->endpoint[0], DIRECTION_EGRESS));
    ct_closing(ct_find(k.addr0, k.addr1, k.port0, k.port1, c->endpoint[1], DIRECTION_INGRESS));
  }
  conns.delete(&k);
  return 0;
}

int sockops(struct bpf_sock_ops *s) {
  switch (s->op) {
  case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
    return opened(s, 1);
  case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
    return opened(s, 0);
  case BPF_SOCK_OPS_RTO_CB:
    return late(s);
  case BPF_SOCK_OPS_STATE_CB:
    if (s->args[1] == TCP_CLOSE_STATE)
      return closed(s);
    if (s->args[1] == BPF_TCP_FIN_WAIT1 || s->args[1] == BPF_TCP_LAST_ACK)
      return patient(s);
  }
  return 0;
}
