/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Every packet in and out of a pod, on the host side of its interface: L3/L4 verdict for all protocols, stateful. The
 * one hook that sees traffic of other nodes, of raw sockets and of pods whose cgroup is not ours. Whatever it cannot
 * parse, place or judge is dropped and recorded.
 */
#include "conntrack.h"
#include "enrol.h"

/* What one packet needs, per CPU: the verifier does not follow values through a map, so that it meets each part of the
 * program once and not once for each kind of packet. Packet hooks never interrupt each other on one CPU. */
struct scratch {
  struct packet packet;
  struct packet inner;
  struct decision decision;
  struct answer answer;
  struct answer peer_answer;
  u32 side; /* of the packet's sender in its connection's record */
  u32 own;  /* of the pod whose hook runs */
  u32 ifindex; /* where a packet goes that is delivered directly */
};
BPF_PERCPU_ARRAY(scratch, struct scratch, 1);

#define TC_PASS (-1) /* TC_ACT_UNSPEC: other filters may follow */
#define TC_DROP 2

static __always_inline void account_drop(u32 len, u16 reason, u8 direction) {
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
    e->src_identity = ep ? ep->identity : 0;
    e->dst_endpoint = endpoint_id_by_addr(daddr);
    e->dst_identity = identity_of(daddr);
  } else {
    e->dst_endpoint = id;
    e->dst_identity = ep ? ep->identity : 0;
    e->src_endpoint = endpoint_id_by_addr(saddr);
    e->src_identity = identity_of(saddr);
  }
}

static __always_inline int drop(struct __sk_buff *skb, const struct packet *p, const struct endpoint *ep, u32 id,
                                u8 direction, u16 reason, u32 rule) {
  struct flow_event *e = event_new(EVENT_TYPE_DROP, direction == DIRECTION_EGRESS ? HOOK_TC_FROM_POD : HOOK_TC_TO_POD);
  if (e) {
    event_packet(e, p);
    event_ends(e, p->saddr, p->daddr, ep, id, direction);
    e->direction = direction;
    e->reason = reason;
    if (direction == DIRECTION_EGRESS)
      e->egress_rule = rule;
    else
      e->ingress_rule = rule;
    events.ringbuf_submit(e, EVENT_QUIET);
  }
  account_drop(skb->len, reason, direction);
  return TC_DROP;
}

static __always_inline int pass(struct __sk_buff *skb, u8 direction) {
  count(direction == DIRECTION_EGRESS ? METRIC_FORWARDED_EGRESS_PACKETS : METRIC_FORWARDED_INGRESS_PACKETS);
  count_by(direction == DIRECTION_EGRESS ? METRIC_FORWARDED_EGRESS_BYTES : METRIC_FORWARDED_INGRESS_BYTES, skb->len);
  return TC_PASS;
}

/* Needs kernel 5.10, and at the other end of the interface another namespace. */
static __always_inline int deliver(struct __sk_buff *skb, u32 ifindex) {
  pass(skb, DIRECTION_EGRESS);
  pass(skb, DIRECTION_INGRESS);
  count(METRIC_DIRECT_PACKETS);
  bpf_skb_change_type(skb, 0 /* PACKET_HOST: its link address may be of a hop that it skips */);
  return bpf_redirect_peer(ifindex, 0);
}

/* Ports of a later fragment are those its first fragment had. Returns a DropReason. */
static __always_inline u32 defragment(struct packet *p) {
  struct frag_key k ALIGNED = {};
  __builtin_memcpy(k.saddr, p->saddr, 16);
  __builtin_memcpy(k.daddr, p->daddr, 16);
  k.id = p->frag_id;
  k.proto = p->proto;
  if (p->later_fragment) {
    struct frag_value *v = frags.lookup(&k);
    if (!v)
      return DROP_REASON_DROP_FRAG_NOT_FOUND;
    p->sport = v->sport;
    p->dport = v->dport;
    p->icmp = p->proto == IPPROTO_ICMP || p->proto == 58;
    p->policy_port = v->dport;
    return 0;
  }
  struct frag_value v = {.sport = p->sport, .dport = p->dport};
  frags.update(&k, &v);
  return 0;
}

/* An ICMP error may pass when the packet it quotes belongs to a connection that was let through. RFC 1812 4.3.2.3 */
static __always_inline int related_allowed(struct __sk_buff *skb, struct packet *p, struct packet *in, u32 l4, u32 id,
                                           u32 generation) {
  struct ct_key k ALIGNED = {};
  u32 inner = 0;
  __builtin_memset(in, 0, sizeof(*in));
  in->related = 1;
  if (p->proto == IPPROTO_ICMP ? parse_v4(skb, in, l4 + 8, &inner) : parse_v6(skb, in, l4 + 8, &inner))
    return 0;
  if (in->later_fragment || parse_l4(skb, in, inner))
    return 0;
  /* An error is for the sender of the packet it quotes, and for nobody else. */
  if (!addr_equal(p->daddr, in->saddr))
    return 0;
  struct ct_entry *e;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 4; i++) {
    if (i & 1)
      ct_key_reverse(&k, id, i & 2 ? DIRECTION_EGRESS : DIRECTION_INGRESS, in);
    else
      ct_key_forward(&k, id, i & 2 ? DIRECTION_EGRESS : DIRECTION_INGRESS, in);
    e = ct.lookup(&k);
    if (e && e->generation == generation)
      return 1;
  }
  return 0;
}

/* Put the opening of a connection on record, once. TCP of a pod whose cgroup is ours is left to sock_ops, unless `missed`:
 * its socket is of a process outside that cgroup. Of two ends on this node the one that began it reports. */
static __always_inline void opened(const struct packet *p, const struct ct_key *k, const struct endpoint *ep, u32 id,
                                   struct ct_entry *entry, struct scratch *w, int missed) {
  const struct answer *a = &w->answer;
  u8 type = a->audited ? EVENT_TYPE_AUDIT : EVENT_TYPE_OPEN;
  if (!a->audited) {
    if (p->proto == IPPROTO_TCP && ep->flags & ENDPOINT_FLAG_HAS_CGROUP && !missed)
      return;
    if (k->direction == DIRECTION_INGRESS && endpoint_id_by_addr(k->saddr))
      return;
  }
  u32 dst_id = k->direction == DIRECTION_EGRESS ? endpoint_id_by_addr(k->daddr) : 0;
  struct endpoint *dst = dst_id ? endpoint_by_id(dst_id) : 0;
  w->peer_answer.rule_id = 0;
  if (dst) {
    ask_with(&w->decision, &w->peer_answer, dst, DIRECTION_INGRESS, ep->identity, p->proto, p->policy_port);
    if (w->peer_answer.verdict == VERDICT_DENY && !a->audited)
      return; /* the other end's hook drops it, and records that */
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
  e->verdict = VERDICT_ALLOW;
  if (k->direction == DIRECTION_EGRESS) {
    e->egress_rule = a->rule_id;
    e->ingress_rule = w->peer_answer.rule_id;
  } else {
    e->ingress_rule = a->rule_id;
  }
  events.ringbuf_submit(e, EVENT_QUIET);
  if (entry)
    entry->flags |= a->audited ? CT_FLAG_AUDITED : CT_FLAG_REPORTED;
  if (a->audited)
    count(METRIC_AUDITED);
}

/* The record of the connection that this packet belongs to; *own is the side of the pod that is asked. */
static __always_inline struct conn *conn_of(struct scratch *w, u8 direction) {
  struct packet *p = &w->packet;
  struct conn_key k ALIGNED = {};
  if (p->proto != IPPROTO_TCP || p->tcp_flags & TCP_SYN || p->frag_id)
    return 0;
  w->side = conn_side(&k, p->saddr, p->daddr, p->sport, p->dport);
  w->own = direction == DIRECTION_EGRESS ? w->side : !w->side;
  return conns.lookup(&k);
}

#define PASS_ON 1
#define HOLD 2
#define DELIVER 3

/* Whether the policy of the pod at a connection's far end lets it live on, after a change. */
static __always_inline int far_allows(struct scratch *w, struct conn *c, u32 far, struct endpoint *receiver,
                                      u32 generation) {
  const struct packet *p = &w->packet;
  int began = (c->flags & CONN_FLAG_INITIATOR_1 ? 1 : 0) == far;
  ask_with(&w->decision, &w->peer_answer, receiver, began ? DIRECTION_EGRESS : DIRECTION_INGRESS,
           identity_of(p->saddr), IPPROTO_TCP, began ? p->sport : p->dport);
  if (w->peer_answer.verdict != VERDICT_ALLOW)
    return 0; /* the hook of that pod says so, and records it */
  if (far)
    c->judged[1] = generation;
  else
    c->judged[0] = generation;
  return 1;
}

/* Whether a packet of an open connection between two pods of this node, let through by its sender's policy, may go straight
 * into the receiver's interface: 0 no, HOLD, DELIVER. It then passes by the bridge, the routes and the filters of the host,
 * which judged the connection's first packets, and the receiver's own hook, so what that one asks is asked here. */
static __always_inline int straight(struct scratch *w, struct conn *c, u32 generation) {
  u32 far = !w->side, to = far ? c->endpoint[1] : c->endpoint[0];
  if (!(c->flags & CONN_FLAG_DIRECT))
    return 0;
  struct endpoint *receiver = endpoint_by_id(to);
  if (!receiver || !receiver->ifindex || !(receiver->flags & ENDPOINT_FLAG_ENROLLED))
    return 0;
  if ((far ? c->judged[1] : c->judged[0]) != generation && !far_allows(w, c, far, receiver, generation))
    return 0;
  w->ifindex = receiver->ifindex;
  return held(c, far, &w->packet) ? HOLD : DELIVER;
}

/* An open connection of a socket in this pod, judged under the policy in force: nothing else need be asked. Returns 0 for
 * all other packets. */
static __always_inline int fast(struct __sk_buff *skb, struct scratch *w, u8 direction, u32 id, struct config *cfg) {
  u32 generation = cfg->generation; /* once: what is asked now must not count for a policy that comes meanwhile */
  struct conn *c = conn_of(w, direction);
  if (!c || c->denied)
    return 0;
  if (w->own ? c->endpoint[1] != id || c->judged[1] != generation || !c->cookie[1]
             : c->endpoint[0] != id || c->judged[0] != generation || !c->cookie[0])
    return 0;
  withdraw_marked(c);
  if (direction == DIRECTION_INGRESS)
    return held(c, w->own, &w->packet) ? HOLD : PASS_ON;
  consider(skb, &w->packet, c, w->side, cfg, id);
  int how = straight(w, c, generation);
  return how ? how : PASS_ON;
}

/* Whether a packet without a conntrack entry answers an open connection: the entry was evicted, the socket is alive. */
static __always_inline int evicted_reply(struct scratch *w, u32 id, u8 direction) {
  struct conn *c = conn_of(w, direction);
  return c && (c->flags & CONN_FLAG_INITIATOR_1 ? 1 : 0) != w->side;
}

/* Whether a pod's socket speaks that sock_ops knows nothing of: when it is open, that hook has been there. */
static __always_inline int unrecorded(struct scratch *w, const struct ct_entry *e, u8 direction) {
  if (direction != DIRECTION_EGRESS || w->packet.proto != IPPROTO_TCP || w->packet.tcp_flags & (TCP_SYN | TCP_RST) ||
      e->flags & (CT_FLAG_REPORTED | CT_FLAG_AUDITED | CT_FLAG_CLOSING))
    return 0;
  return !conn_of(w, direction);
}

/* Remember that this pod's policy let its connection pass, so that the next packet is fast. */
static __always_inline void judged(struct scratch *w, u32 id, u8 direction, u32 generation) {
  struct conn *c = conn_of(w, direction);
  if (!c || c->denied)
    return;
  if (w->own && c->endpoint[1] == id)
    c->judged[1] = generation;
  if (!w->own && c->endpoint[0] == id)
    c->judged[0] = generation;
}

static __always_inline int judge(struct __sk_buff *skb, u8 direction) {
  u32 zero = 0;
  struct scratch *w = scratch.lookup(&zero);
  if (!w)
    return TC_DROP; /* cannot happen: an array always has its first element */
  struct packet *p = &w->packet;
  struct answer *a = &w->answer;
  __builtin_memset(p, 0, sizeof(*p));
  struct iface_key ik = {.ifindex = skb->ifindex};
  struct endpoint_ref *ref = endpoint_ifaces.lookup(&ik);
  u32 id = ref ? ref->id : 0;
  struct config *cfg = get_config();
  u32 l4 = 0, reason;
  u16 ethertype = bpf_ntohs(skb->protocol);

  if (ethertype == ETH_ARP)
    return TC_PASS;
  if (ethertype == ETH_IP && parse_usual(skb, p))
    reason = 0;
  else if (ethertype == ETH_IP)
    reason = parse_v4(skb, p, 14, &l4);
  else if (ethertype == ETH_IPV6)
    reason = parse_v6(skb, p, 14, &l4);
  else
    return drop(skb, p, endpoint_by_id(id), id, direction, DROP_REASON_UNSUPPORTED_L3_PROTOCOL, 0);
  if (!reason && l4 && !p->later_fragment)
    reason = parse_l4(skb, p, l4);
  if (!reason && id && cfg) {
    switch (fast(skb, w, direction, id, cfg)) {
    case PASS_ON:
      return pass(skb, direction);
    case HOLD:
      return TC_DROP; /* no drop of policy: it comes again */
    case DELIVER:
      return deliver(skb, w->ifindex);
    }
  }
  struct endpoint *ep = endpoint_by_id(id);
  if (reason)
    return drop(skb, p, ep, id, direction, reason, 0);
  if (!ep || !cfg || !(ep->flags & ENDPOINT_FLAG_ENROLLED))
    return drop(skb, p, ep, id, direction, DROP_REASON_DROP_EP_NOT_READY, 0);
  if (is_link_control(p))
    return TC_PASS;
  if (direction == DIRECTION_EGRESS && endpoint_id_by_addr(p->saddr) != id)
    return drop(skb, p, ep, id, direction, DROP_REASON_INVALID_SOURCE_IP, 0);
  if (p->frag_id && (reason = defragment(p)))
    return drop(skb, p, ep, id, direction, reason, 0);
  if (!p->later_fragment && is_icmp_error(p) && related_allowed(skb, p, &w->inner, l4, id, cfg->generation))
    return pass(skb, direction);

  u64 now = bpf_ktime_get_ns();
  u32 generation = cfg->generation;
  struct ct_key k ALIGNED;
  struct ct_entry *e;
  int reply = 1;
  /* A SYN begins a connection; it answers none, whatever was on its tuple before. */
  int begins = p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
  ct_key_reverse(&k, id, direction, p);
  e = begins ? 0 : ct.lookup(&k);
  if (!e || ct_expired(e, p->proto, now, cfg)) {
    reply = 0;
    ct_key_forward(&k, id, direction, p);
    e = ct.lookup(&k);
    if (e && (ct_expired(e, p->proto, now, cfg) ||
              (e->flags & CT_FLAG_CLOSING && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)))
      e = 0; /* a new connection on an old tuple */
  }

  if (!e && evicted_reply(w, id, direction)) {
    reply = 1;
    ct_key_reverse(&k, id, direction, p);
  }

  int begun = 0;
  if (!e || e->generation != generation) {
    u32 peer = identity_of(direction == DIRECTION_EGRESS ? p->daddr : p->saddr);
    u16 port = p->icmp ? (reply ? (p->proto == IPPROTO_ICMP ? 8 : 128) : p->policy_port) : k.dport;
    ask_with(&w->decision, a, ep, k.direction, peer, p->proto, port);
    if (a->verdict == VERDICT_DENY) {
      if (e)
        ct.delete(&k);
      return drop(skb, p, ep, id, direction, a->reason, a->rule_id);
    }
    if (e) {
      e->generation = generation;
      e->rule_id = a->rule_id;
      e->peer_identity = peer;
    } else {
      struct ct_entry fresh = {};
      fresh.created = now;
      fresh.generation = generation;
      fresh.peer_identity = peer;
      fresh.rule_id = a->rule_id;
      fresh.last_seen = now;
      begun = 1;
      if (ct.update(&k, &fresh))
        count(METRIC_CT_INSERT_FAILED); /* this packet was allowed; its reply may not find the entry */
      count(METRIC_CT_CREATED);
      e = ct.lookup(&k);
    }
  }
  int missed = !begun && e && unrecorded(w, e, direction);
  if (missed) {
    a->rule_id = e->rule_id;
    a->audited = 0;
  }
  if (begun || missed)
    opened(p, &k, ep, id, e, w, missed);
  if (e)
    ct_seen(e, p, skb->len, reply, now);
  judged(w, id, direction, generation);
  return pass(skb, direction);
}

/* ingress of the host-side interface: what the pod sends */
int from_pod(struct __sk_buff *skb) {
  return judge(skb, DIRECTION_EGRESS);
}

/* egress of the host-side interface: what the pod is about to receive */
int to_pod(struct __sk_buff *skb) {
  return judge(skb, DIRECTION_INGRESS);
}
