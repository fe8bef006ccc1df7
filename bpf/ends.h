/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Both ends of a connection: which endpoints they are, whether they may be short-cut at all, what the packet hooks know of
 * them, and how an event names them, initiator first.
 */
#pragma once
#include "conntrack.h"

/* What a connection's ends are, initiator first. */
struct ends {
  u32 id[2]; /* endpoint ids; 0: not ours */
  u32 identity[2];
  u32 flags[2]; /* EndpointFlag */
};

static __always_inline void look_up_end(struct ends *e, int i, const u8 *addr) {
  u32 id = endpoint_id_by_addr(addr);
  struct endpoint *ep = id ? endpoint_by_id(id) : 0;
  e->id[i] = id;
  e->flags[i] = ep ? ep->flags : 0;
  e->identity[i] = ep ? ep->identity : identity_of(addr);
}

static __always_inline u8 why_not(const struct config *cfg, const struct ends *e) {
  if (!(e->flags[0] & e->flags[1] & ENDPOINT_FLAG_SELF_TEST)) {
    if (!cfg->acceleration)
      return ACCEL_REASON_OFF;
    if (!cfg->self_test)
      return ACCEL_REASON_SELF_TEST;
  }
  if (!e->id[0] || !e->id[1])
    return ACCEL_REASON_PEER_REMOTE;
  if (e->id[0] == e->id[1])
    return ACCEL_REASON_LOOPBACK;
  if (!(e->flags[0] & e->flags[1] & ENDPOINT_FLAG_ACCELERATE))
    return ACCEL_REASON_OPT_OUT;
  return ACCEL_REASON_PROBATION;
}

/* The conntrack entry of one end's pod: the packet hooks made it, and judged, when the first packet passed. */
static __always_inline struct ct_entry *ct_find(const u8 *saddr, const u8 *daddr, u16 sport, u16 dport, u32 endpoint,
                                                u8 direction) {
  struct ct_key k ALIGNED = {};
  __builtin_memcpy(k.saddr, saddr, 16);
  __builtin_memcpy(k.daddr, daddr, 16);
  k.endpoint = endpoint;
  k.sport = sport;
  k.dport = dport;
  k.proto = IPPROTO_TCP;
  k.direction = direction;
  return endpoint ? ct.lookup(&k) : 0;
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
  e->accel = (c->redirect_msgs[0] | c->redirect_msgs[1]) != 0;
  e->egress_rule = c->egress_rule;
  e->ingress_rule = c->ingress_rule;
  e->flags = conn_flags(c);
}
