/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Every packet in and out of a pod, on the host side of its interface: L3/L4 verdict for all protocols, stateful. The
 * one hook that sees traffic of other nodes, of raw sockets and of pods whose cgroup is not ours. Whatever it cannot
 * parse, place or judge is dropped and recorded.
 */
#include "conntrack.h"
#include "detour.h"
#include "open.h"

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
    p->icmp_type = v->icmp_type;
    p->policy_port = p->icmp ? v->icmp_type : v->dport;
    return 0;
  }
  struct frag_value v = {.sport = p->sport, .dport = p->dport, .icmp_type = p->icmp_type};
  frags.update(&k, &v);
  return 0;
}

/* An ICMP error may pass when the packet it quotes belongs to a connection that was let through. RFC 1812 4.3.2.3 */
static __always_inline int related_allowed(struct __sk_buff *skb, struct scratch *w, struct endpoint *ep, u32 l4, u32 id,
                                           u32 generation) {
  struct packet *p = &w->packet, *in = &w->inner;
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
  struct ct_entry *e = 0;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 4 && !e; i++) {
    if (i & 1)
      ct_key_reverse(&k, id, i & 2 ? DIRECTION_EGRESS : DIRECTION_INGRESS, in);
    else
      ct_key_forward(&k, id, i & 2 ? DIRECTION_EGRESS : DIRECTION_INGRESS, in);
    e = ct.lookup(&k);
  }
  if (e && e->generation == generation)
    return 1;
  if (e) {
    ask_with(&w->decision, &w->answer, ep, id, k.direction,
             identities_at(k.direction == DIRECTION_EGRESS ? k.daddr : k.saddr), k.proto, k.dport);
    return w->answer.verdict != VERDICT_DENY;
  }
  return in->proto == IPPROTO_TCP && let_through(in, id, generation);
}

/* Under which policy a pod's own hook let a packet go, for the hook where it arrives: in a field that is for packet filters
 * alone. 0: it came from elsewhere. */
#define STAMP(generation) (0x8000 | ((generation) & 0x3fff))

/* Whether the pod at a connection's far end is against it by now, where that is a pod of this node whose own hook has let
 * the connection pass, under another policy. A packet may wait between the two hooks, for a hardware address even seconds,
 * and an edit may pass it by: of two ends that refuse it in turn neither would be heard if each spoke for itself alone.
 * Where the host translates addresses, each hook sees a connection of its own, and asks its own end. If its sender knows
 * of no connection of a packet that has waited so, nobody can tell whose it is by now; it may come again.
 * And whether it is against this pod at all, where its hook could not know which pod an address is of (`nameless`): one that
 * no Workload names, or that is for many. */
static __always_inline int far_denies(struct scratch *w, struct ct_key *k, const struct endpoint *own, u32 far,
                                      u32 generation, u16 port, u8 direction) {
  u32 id = k->endpoint, nameless = direction == DIRECTION_INGRESS && w->nameless;
  u8 out = k->direction == DIRECTION_INGRESS;
  k->endpoint = far;
  k->direction = out ? DIRECTION_EGRESS : DIRECTION_INGRESS;
  const struct ct_entry *let_pass = ct.lookup(k);
  int is_old = nameless || (let_pass && let_pass->generation != generation);
  struct endpoint *ep = is_old ? endpoint_by_id(far) : 0;
  w->late = w->late && !let_pass;
  w->peer_answer.verdict = w->late ? VERDICT_DENY : VERDICT_ALLOW;
  w->peer_answer.reason = DROP_REASON_POLICY_DENIED;
  w->peer_answer.rule_id = 0;
  /* While two editions count this end asks both, and the older one's answer is enough there: all of that one allow. Both
   * would be too much for kernel 6.1. */
  if (ep)
    ask_of(&w->peer_decision, &w->peer_answer, ep, far, k->direction,
           nameless ? identities_in(own, id) : identities_at(out ? k->daddr : k->saddr), k->proto, port, 0, 0);
  k->endpoint = id;
  k->direction = out ? DIRECTION_INGRESS : DIRECTION_EGRESS;
  return w->peer_answer.verdict == VERDICT_DENY;
}

static __always_inline void stamp(struct __sk_buff *skb, u8 direction, u32 generation, u32 is_from_proxy) {
  if (direction == DIRECTION_EGRESS)
    skb->tc_index = STAMP(generation) | (is_from_proxy ? PROXY_STAMP : 0);
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
    u32 stamped = cfg->generation;
    switch (fast(skb, w, direction, id, cfg)) {
    case PASS_ON:
      stamp(skb, direction, stamped, 0);
      return pass(skb, direction, id);
    case HOLD:
      return TC_DROP; /* no drop of policy: it comes again */
    case DELIVER:
      return deliver(skb, w->ifindex, id);
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
  /* A bridge floods what it has no port for: another pod's packet is nothing to judge, and nothing to record. */
  u32 owner = direction == DIRECTION_INGRESS ? endpoint_id_by_addr(p->daddr) : 0;
  if (owner && owner != id)
    return TC_DROP;
  if (direction == DIRECTION_INGRESS && is_forged(skb, endpoint_id_by_addr(p->saddr), cfg))
    return drop(skb, p, ep, id, direction, DROP_REASON_INVALID_SOURCE_IP, 0);
  if (p->frag_id && (reason = defragment(p)))
    return drop(skb, p, ep, id, direction, reason, 0);
  if (!p->later_fragment && is_icmp_error(p) && related_allowed(skb, w, ep, l4, id, cfg->generation))
    return pass(skb, direction, id);

  u64 now = bpf_ktime_get_ns();
  u32 generation = cfg->generation;
  w->is_from_proxy = is_proxys(skb, direction);
  w->nameless = !owner;
  struct ct_key *k = &w->key;
  struct ct_entry *e, *spare = 0;
  u64 over = 0; /* when the entry was made whose connection is over */
  int reply = 1;
  /* A SYN begins a connection; it answers none, whatever was on its tuple before. Nor does an echo request. */
  int begins = p->proto == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
  ct_key_reverse(k, id, direction, p);
  e = begins || is_echo_request(p) ? 0 : ct.lookup(k);
  if (!e || ct_expired(e, p->proto, now, cfg) || is_anothers(e, p, direction, generation)) {
    reply = 0;
    unsolicited(p);
    ct_key_forward(k, id, direction, p);
    e = ct.lookup(k);
    if (e && (ct_expired(e, p->proto, now, cfg) || (e->flags & (CT_FLAG_CLOSING | CT_FLAGS_FIN) && begins))) {
      over = e->created; /* a new connection on an old tuple */
      e = 0;
    }
  }

  if (!e && evicted_reply(w, id, direction)) {
    reply = 1;
    over = 0;
    ct_key_reverse(k, id, direction, p);
  }

  /* The stamp outlives the way from one network namespace to another, where another agent may have given it. */
  w->late = direction == DIRECTION_INGRESS && skb->tc_index & 0x8000 &&
            (skb->tc_index & ~PROXY_STAMP) != STAMP(generation) && endpoint_id_by_addr(p->saddr);
  /* It is older than what it would answer. */
  if (w->late && reply && e && e->generation == generation && !(e->flags & CT_FLAG_SEEN_REPLY) && p->proto != IPPROTO_TCP)
    return drop(skb, p, ep, id, direction, DROP_REASON_POLICY_DENIED, 0);

  int begun = 0;
  if (!e || e->generation != generation) {
    const u8 *peer_addr = direction == DIRECTION_EGRESS ? p->daddr : p->saddr;
    struct identities peer = identities_at(peer_addr);
    u32 far = endpoint_id_by_addr(peer_addr);
    if (e && e->peer_endpoint != far && p->proto != IPPROTO_TCP) {
      over = e->created; /* the address is another pod's now: with that one it is another conversation */
      e = 0;
    }
    u16 port = p->icmp ? (reply ? (p->proto == IPPROTO_ICMP ? 8 : 128) : p->policy_port) : k->dport;
    /* Kept where the verifier does not follow it: it would walk through policy once more for each way that leads here. */
    w->born = e ? e->created : 0;
    w->ended = over;
    w->reply = reply;
    w->fits = e ? e->flags & CT_FLAGS_PROXY : begins || p->proto != IPPROTO_TCP;
    w->by_proxy = e ? e->flags & CT_FLAG_FROM_PROXY : w->is_from_proxy;
    w->mtls = p->proto == IPPROTO_TCP && peer.flags & IPCACHE_FLAG_MESH ? cfg->mtls : MTLS_OFF;
    ask_with(&w->decision, a, ep, id, k->direction, peer, p->proto, port);
    demand_mtls(w, a);
    /* What the proxy is to look into goes by it from its first packet on, or not at all. */
    if (!w->fits && (w->is_from_proxy || a->verdict == VERDICT_PROXY)) {
      a->verdict = VERDICT_DENY;
      a->reason = DROP_REASON_POLICY_DENIED;
    }
    int by_far = a->verdict != VERDICT_DENY && far && far != id && far_denies(w, k, ep, far, generation, port, direction);
    int denied = a->verdict == VERDICT_DENY || by_far;
    reply = w->reply;
    /* A packet that is too late says nothing of its connection. */
    over = denied && w->born && !(by_far && w->late) ? w->born : w->ended;
    e = 0;
    if (over)
      spare = ended(w, k, over, denied);
    else if (w->born)
      e = ct.lookup(k); /* asking took time, and an element of an LRU map serves another key once it is deleted */
    if (by_far)
      return drop_by(skb, p, endpoint_by_id(far), far, direction, !direction, reply, w->peer_answer.reason,
                     w->peer_answer.rule_id);
    if (denied)
      return drop_by(skb, p, ep, id, direction, direction, reply, a->reason, a->rule_id);
    if (e) {
      e->generation = generation;
      e->rule_id = a->rule_id;
      e->identity = identity_in(ep, id);
      e->peer_identity = current(peer);
      e->peer_endpoint = far;
    } else if (p->proto != IPPROTO_TCP || !(p->tcp_flags & (TCP_FIN | TCP_RST))) {
      /* What ends a connection begins none: the other end's packets would be replies to it. */
      struct ct_entry fresh = {};
      fresh.created = now;
      fresh.generation = generation;
      fresh.identity = identity_in(ep, id);
      fresh.peer_identity = current(peer);
      fresh.peer_endpoint = far;
      fresh.rule_id = a->rule_id;
      fresh.flags = w->is_from_proxy ? CT_FLAG_FROM_PROXY : a->verdict == VERDICT_PROXY ? CT_FLAG_TO_PROXY : 0;
      fresh.last_seen = now;
      begun = 1;
      if (spare) {
        *spare = fresh; /* a client that calls again and again comes back to its ports: half the price of an update */
        e = spare;
      } else {
        int failed = ct.insert(k, &fresh);
        e = ct.lookup(k);
        if (failed && e)
          begun = 0; /* another core met the connection just now */
        else if (failed)
          count(METRIC_CT_INSERT_FAILED, id); /* this packet was allowed; its reply may not find the entry */
      }
      if (begun)
        count(METRIC_CT_CREATED, id);
    }
  }
  int way = e                                                  ? detour(e->flags, w->is_from_proxy, reply)
            : w->is_from_proxy || a->verdict == VERDICT_PROXY ? ASTRAY
                                                               : THROUGH;
  if (way == ASTRAY)
    return drop(skb, p, ep, id, direction, DROP_REASON_INVALID_PACKET_DROPPED, 0);
  int missed = !begun && e && unrecorded(w, e, direction, reply);
  if (missed) {
    a->rule_id = e->rule_id;
    a->audited = 0;
  }
  if (begun || missed)
    opened(p, k, ep, id, e, w, missed);
  if (e)
    ct_seen(e, p, skb->len, reply, now);
  if (way == TO_PROXY)
    return to_proxy(skb, w, cfg->proxy_ifindex, direction, id, begun);
  if (!(e && e->flags & CT_FLAGS_PROXY) && judged(w, id, direction, generation) == HOLD)
    return TC_DROP;
  stamp(skb, direction, generation, e && e->flags & CT_FLAG_FROM_PROXY);
  return pass(skb, direction, id);
}

/* ingress of the host-side interface: what the pod sends */
int from_pod(struct __sk_buff *skb) {
  return judge(skb, DIRECTION_EGRESS);
}

/* egress of the host-side interface: what the pod is about to receive */
int to_pod(struct __sk_buff *skb) {
  return judge(skb, DIRECTION_INGRESS);
}
