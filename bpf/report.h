/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * What the packet hooks keep while they look at a packet, and what they put on record: drops, and openings and ends that
 * no socket hook tells of.
 */
#pragma once
#include "flow.h"
#include "packet.h"

/* What one packet needs, per CPU: the verifier does not follow values through a map, so that it meets each part of the
 * program once and not once for each kind of packet. Packet hooks never interrupt each other on one CPU. */
struct scratch {
  struct packet packet;
  struct packet inner;
  struct decision decision;
  struct decision peer_decision;
  struct answer answer;
  struct answer peer_answer;
  struct ct_entry over; /* of a connection that has ended */
  struct ct_key key;
  u64 born; /* when the packet's entry was made; 0: it has none */
  u64 ended; /* when the entry was made whose connection is over; 0: none is */
  u32 reply; /* 1: the packet answers what its entry is of */
  u32 is_from_proxy;
  u32 fits; /* not 0: the packet may go by way of the proxy: it begins a connection, or its connection goes there */
  u32 mtls; /* Mtls, of a TCP connection with an enrolled pod of another node; else off */
  u32 by_proxy; /* not 0: the node proxy has begun the packet's connection */
  u32 late; /* 1: it has waited on its way while another policy came into force */
  u32 nameless; /* 1: no Workload names the address that it is for */
  u32 side; /* of the packet's sender in its connection's record */
  u32 own;  /* of the pod whose hook runs */
  u32 ifindex; /* where a packet goes that is delivered directly */
};
BPF_PERCPU_ARRAY(scratch, struct scratch, 1);

#define TC_PASS (-1) /* TC_ACT_UNSPEC: other filters may follow */
#define TC_DROP 2

static __always_inline void account_drop(u32 len, u16 reason, u8 direction, u32 id) {
  if (id >= FIRST_SELF_TEST)
    return;
  struct traffic_key k = {.reason = reason, .direction = direction};
  struct traffic_value *v = traffic.lookup(&k);
  if (!v) {
    struct traffic_value zero = {};
    traffic.update(&k, &zero);
    v = traffic.lookup(&k);
  }
  if (v) {
    v->packets++;
    v->bytes += len;
  }
}

static __always_inline void event_packet(struct flow_event *e, const struct packet *p) {
  __builtin_memcpy(e->saddr, p->saddr, 16);
  __builtin_memcpy(e->daddr, p->daddr, 16);
  e->sport = p->icmp ? 0 : p->sport;
  e->dport = p->icmp ? 0 : p->dport;
  e->proto = p->proto;
  e->tcp_flags = p->tcp_flags;
  e->icmp_type = p->icmp_type;
  e->icmp_code = p->icmp_code;
}

/* src and dst identities and endpoints as the addresses name them */
static __always_inline void event_ends(struct flow_event *e, const u8 *saddr, const u8 *daddr,
                                       const struct endpoint *ep, u32 id, u8 direction) {
  if (direction == DIRECTION_EGRESS) {
    e->src_endpoint = id;
    e->src_identity = ep ? identity_in(ep, id) : 0;
    e->dst_endpoint = endpoint_id_by_addr(daddr);
    e->dst_identity = identity_of(daddr);
  } else {
    e->dst_endpoint = id;
    e->dst_identity = ep ? identity_in(ep, id) : 0;
    e->src_endpoint = endpoint_id_by_addr(saddr);
    e->src_identity = identity_of(saddr);
  }
}

/* `hook`: the direction of the hook that drops; `direction`: the packet's at the pod `id`, whose rule is against it. That
 * is a rule of the other direction if the packet is a reply. */
static __always_inline int drop_by(struct __sk_buff *skb, const struct packet *p, const struct endpoint *ep, u32 id,
                                   u8 hook, u8 direction, u8 is_reply, u16 reason, u32 rule) {
  struct flow_event *e = event_new(EVENT_TYPE_DROP, hook == DIRECTION_EGRESS ? HOOK_TC_FROM_POD : HOOK_TC_TO_POD);
  if (e) {
    event_packet(e, p);
    event_ends(e, p->saddr, p->daddr, ep, id, direction);
    e->direction = direction ^ is_reply;
    e->is_reply = is_reply;
    e->reason = reason;
    if (hook == DIRECTION_INGRESS && reason == DROP_REASON_INVALID_SOURCE_IP)
      e->ifindex = skb->ingress_ifindex; /* its address says nothing of its sender */
    if (e->direction == DIRECTION_EGRESS)
      e->egress_rule = rule;
    else
      e->ingress_rule = rule;
    events.ringbuf_submit(e, EVENT_QUIET);
  }
  account_drop(skb->len, reason, direction, id);
  return TC_DROP;
}

static __always_inline int drop(struct __sk_buff *skb, const struct packet *p, const struct endpoint *ep, u32 id,
                                u8 direction, u16 reason, u32 rule) {
  return drop_by(skb, p, ep, id, direction, direction, 0, reason, rule);
}

static __always_inline int pass(struct __sk_buff *skb, u8 direction, u32 id) {
  int out = direction == DIRECTION_EGRESS;
  count(out ? METRIC_FORWARDED_EGRESS_PACKETS : METRIC_FORWARDED_INGRESS_PACKETS, id);
  count_by(out ? METRIC_FORWARDED_EGRESS_BYTES : METRIC_FORWARDED_INGRESS_BYTES, skb->len, id);
  return TC_PASS;
}

/* Put the opening of a connection on record, once. TCP is left to sock_ops where either pod's cgroup is ours, unless it is
 * `missed`: the sockets are of processes outside. Of two ends on this node the one that began it reports. */
static __always_inline void opened(const struct packet *p, const struct ct_key *k, const struct endpoint *ep, u32 id,
                                   struct ct_entry *entry, struct scratch *w, int missed) {
  const struct answer *a = &w->answer;
  u8 type = a->audited ? EVENT_TYPE_AUDIT : EVENT_TYPE_OPEN;
  /* An audit names who would have denied; who let it pass is what the connection's other records name. */
  u32 rule = a->audited ? DECISION_RULE(w->decision.audit) : a->rule_id;
  if (!a->audited) {
    if (p->proto == IPPROTO_TCP && ep->flags & ENDPOINT_FLAG_HAS_CGROUP && !missed)
      return;
    if (k->direction == DIRECTION_INGRESS && endpoint_id_by_addr(k->saddr))
      return;
  }
  u32 dst_id = k->direction == DIRECTION_EGRESS ? endpoint_id_by_addr(k->daddr) : 0;
  struct endpoint *dst = dst_id ? endpoint_by_id(dst_id) : 0;
  if (dst && dst->flags & ENDPOINT_FLAG_HAS_CGROUP && p->proto == IPPROTO_TCP && !a->audited && !missed)
    return;
  w->peer_answer.rule_id = 0;
  if (dst) {
    ask_with(&w->decision, &w->peer_answer, dst, dst_id, DIRECTION_INGRESS, identities_in(ep, id), p->proto,
             p->policy_port);
    if (w->peer_answer.verdict == VERDICT_DENY) { /* the other end's hook drops it, and records that */
      if (!a->audited)
        return;
      w->peer_answer.rule_id = 0;
    }
  }
  struct flow_event *e = event_new(type, k->direction == DIRECTION_EGRESS ? HOOK_TC_FROM_POD : HOOK_TC_TO_POD);
  if (!e)
    return;
  event_packet(e, p);
  __builtin_memcpy(e->saddr, k->saddr, 16);
  __builtin_memcpy(e->daddr, k->daddr, 16);
  if (!p->icmp) {
    e->sport = k->sport;
    e->dport = k->dport;
  }
  event_ends(e, k->saddr, k->daddr, ep, id, k->direction);
  e->direction = k->direction;
  e->verdict = a->verdict == VERDICT_PROXY ? VERDICT_PROXY : VERDICT_ALLOW;
  if (k->direction == DIRECTION_EGRESS) {
    e->egress_rule = rule;
    e->ingress_rule = w->peer_answer.rule_id;
  } else {
    e->ingress_rule = rule;
  }
  events.ringbuf_submit(e, EVENT_QUIET);
  if (entry)
    entry->flags |= a->audited ? CT_FLAG_AUDITED : CT_FLAG_REPORTED;
  if (a->audited)
    count(METRIC_AUDITED, id);
}

/* Forget the entry of a connection that is over, made at `born`; where the packet hook put its opening on record, its end
 * is put there, too, as the agent does with an entry that nobody meets again (control/agent/ageing.py). Whoever takes it
 * out of the map tells of it: the agent or another core may be at it. An entry without a record is returned, for the new
 * connection's to be written over it, unless that one is denied. It is looked up anew: asking policy took time, and an
 * element of an LRU map serves another key once it is deleted. */
static __always_inline struct ct_entry *ended(struct scratch *w, struct ct_key *k, u64 born, int denied) {
  struct ct_entry *e = ct.lookup(k);
  if (!e || e->created != born)
    return 0;
  if (!denied && !(e->flags & CT_FLAG_REPORTED))
    return e;
  w->over = *e;
  if (ct.delete(k) || !(w->over.flags & CT_FLAG_REPORTED))
    return 0;
  u32 id = k->endpoint, out = k->direction == DIRECTION_EGRESS;
  u32 other = w->over.peer_endpoint, other_rule = 0;
  if (other) {
    k->endpoint = other;
    k->direction = !out;
    const struct ct_entry *mirror = ct.lookup(k);
    if (mirror)
      other_rule = mirror->rule_id;
    k->endpoint = id;
    k->direction = out;
  }
  struct flow_event *c = event_new(EVENT_TYPE_CLOSE, out ? HOOK_TC_FROM_POD : HOOK_TC_TO_POD);
  if (!c)
    return 0;
  c->time = w->over.last_seen;
  c->duration = w->over.last_seen - w->over.created;
  c->tx_bytes = w->over.tx_bytes;
  c->rx_bytes = w->over.rx_bytes;
  __builtin_memcpy(c->saddr, k->saddr, 16);
  __builtin_memcpy(c->daddr, k->daddr, 16);
  c->proto = k->proto;
  if (k->proto == IPPROTO_ICMP || k->proto == 58) {
    c->icmp_type = k->dport;
  } else {
    c->sport = k->sport;
    c->dport = k->dport;
  }
  c->direction = out;
  c->verdict = VERDICT_ALLOW;
  if (out) {
    c->src_endpoint = id;
    c->src_identity = w->over.identity;
    c->egress_rule = w->over.rule_id;
    c->dst_endpoint = other;
    c->dst_identity = w->over.peer_identity;
    c->ingress_rule = other_rule;
  } else {
    c->dst_endpoint = id;
    c->dst_identity = w->over.identity;
    c->ingress_rule = w->over.rule_id;
    c->src_endpoint = other;
    c->src_identity = w->over.peer_identity;
    c->egress_rule = other_rule;
  }
  events.ringbuf_submit(c, EVENT_QUIET);
  return 0;
}
