/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Both ends of a connection: which endpoints they are, whether they may be short-cut at all, what the packet hooks know of
 * them, and how an event names them, initiator first.
 */
#pragma once
#include "conntrack.h"

/* Fill in which endpoint an address is, and return its EndpointFlags; 0: it is not ours. */
static __always_inline u32 look_up_end(struct end *e, const u8 *addr) {
  u32 id = endpoint_id_by_addr(addr);
  struct endpoint *ep = id ? endpoint_by_id(id) : 0;
  e->endpoint = id;
  e->identity = ep ? identity_in(ep, id) : identity_of(addr);
  return ep ? ep->flags : 0;
}

/* `flags`: the EndpointFlags that both ends have. */
static __always_inline u8 why_not(const struct config *cfg, const struct end *from, const struct end *to, u32 flags) {
  if (!(flags & ENDPOINT_FLAG_SELF_TEST)) {
    if (!cfg->acceleration)
      return ACCEL_REASON_OFF;
    if (!cfg->self_test)
      return ACCEL_REASON_SELF_TEST;
  }
  if (!from->endpoint || !to->endpoint)
    return ACCEL_REASON_PEER_REMOTE;
  if (from->endpoint == to->endpoint)
    return ACCEL_REASON_LOOPBACK;
  if (!(flags & ENDPOINT_FLAG_ACCELERATE))
    return ACCEL_REASON_OPT_OUT;
  if (!(flags & ENDPOINT_FLAG_UNSHAPED))
    return ACCEL_REASON_QUEUE;
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
  int side = initiator(c);
  const struct end *from = END_OF(c, side), *to = END_OF(c, !side);
  __builtin_memcpy(e->saddr, side ? k->addr1 : k->addr0, 16);
  __builtin_memcpy(e->daddr, side ? k->addr0 : k->addr1, 16);
  e->sport = side ? k->port1 : k->port0;
  e->dport = side ? k->port0 : k->port1;
  e->src_identity = from->identity;
  e->dst_identity = to->identity;
  e->src_endpoint = from->endpoint;
  e->dst_endpoint = to->endpoint;
  e->accel_reason[0] = from->reason;
  e->accel_reason[1] = to->reason;
  e->cookie = from->cookie ? from->cookie : to->cookie;
  e->egress_rule = from->rule;
  e->ingress_rule = to->rule;
  e->proto = IPPROTO_TCP;
  e->verdict = c->denied ? VERDICT_DENY : c->flags & CONN_FLAG_TO_PROXY ? VERDICT_PROXY : VERDICT_ALLOW;
  e->accel = (from->redirect_msgs | to->redirect_msgs) != 0;
  e->flags = conn_flags(c);
}
