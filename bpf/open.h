/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Packets of open connections. Where sock_ops has made a connection's record and the pod's policy has let it pass under
 * the generation in force, nothing else need be asked; and between two pods of this node the packet may go straight into
 * the receiver's interface.
 */
#pragma once
#include "enrol.h"
#include "report.h"

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

/* Whether this pod's policy lets the open connection of an inner packet pass. The packets of one do not touch its
 * conntrack entry, which may be gone. */
static __always_inline int let_through(const struct packet *in, u32 id, u32 generation) {
  struct conn_key k ALIGNED = {};
  conn_side(&k, in->saddr, in->daddr, in->sport, in->dport);
  const struct conn *c = conns.lookup(&k);
  if (!c || c->denied)
    return 0;
  const struct end *own = END_OF(c, c->end[1].endpoint == id);
  return own->endpoint == id && own->judged == generation;
}

#define PASS_ON 1
#define HOLD 2
#define DELIVER 3

/* Whether the policy of the pod at a connection's far end lets it live on, after a change. */
static __always_inline int far_allows(struct scratch *w, int began, struct end *far, struct endpoint *receiver,
                                      u32 generation) {
  const struct packet *p = &w->packet;
  if (endpoint_id_by_addr(p->daddr) != far->endpoint)
    return 0; /* the address has passed to another pod */
  ask_with(&w->decision, &w->peer_answer, receiver, far->endpoint, began ? DIRECTION_EGRESS : DIRECTION_INGRESS,
           identities_at(p->saddr), IPPROTO_TCP, began ? p->sport : p->dport);
  if (w->peer_answer.verdict != VERDICT_ALLOW)
    return 0; /* the hook of that pod says so, and records it */
  far->judged = generation;
  return 1;
}

/* Whether a packet of an open connection between two pods of this node, let through by its sender's policy, may go straight
 * into the receiver's interface: 0 no, HOLD, DELIVER. It then passes by the bridge, the routes and the filters of the host,
 * which judged the connection's first packets, and the receiver's own hook, so what that one asks is asked here. */
static __always_inline int straight(struct scratch *w, struct conn *c, struct end *near, struct end *far,
                                    u32 generation) {
  /* The far pod's own hook has let the connection pass: the host translates no address between the two. */
  u32 let_in = far->judged;
  if (!(c->flags & CONN_FLAG_DIRECT) || !let_in)
    return 0;
  /* Both ways or none, or a firewall of the host would see half a conversation: the far socket must be known, too. The
   * handshake's last packet, which makes it known, may go: a host that has not seen it forgets the connection soon, one
   * that has would wait days for an end that passes it by. */
  if (!far->cookie && (w->packet.payload || w->packet.tcp_flags & TCP_FIN || near->packets != 1))
    return 0;
  struct endpoint *receiver = endpoint_by_id(far->endpoint);
  if (!receiver || !receiver->ifindex || !(receiver->flags & ENDPOINT_FLAG_ENROLLED) ||
      !(receiver->flags & ENDPOINT_FLAG_DIRECT))
    return 0;
  if (let_in != generation && !far_allows(w, initiator(c) != w->side, far, receiver, generation))
    return 0;
  w->ifindex = receiver->ifindex;
  if (!is_still_of(receiver, far->endpoint))
    return 0;
  return held(far, near, &w->packet) ? HOLD : DELIVER;
}

/* Whether a packet in the name of a pod of this node has come in elsewhere than where that pod's come in. The host notes by
 * which interface it has received a packet, and no sender can change that; what the host makes itself has none. */
static __always_inline int is_forged(const struct __sk_buff *skb, u32 id, const struct config *cfg) {
  u32 by = skb->ingress_ifindex;
  const struct endpoint *ep = by && id ? endpoint_by_id(id) : 0;
  if (!ep)
    return 0;
  u32 own = ep->ifindex, inlet = ep->inlet;
  return inlet && by != inlet && by != own && by != cfg->proxy_ifindex && is_still_of(ep, id);
}

/* An open connection of a socket in this pod, judged under the policy in force: nothing else need be asked. Returns 0 for
 * all other packets. */
static __always_inline int fast(struct __sk_buff *skb, struct scratch *w, u8 direction, u32 id, struct config *cfg) {
  u32 generation = cfg->generation; /* once: what is asked now must not count for a policy that comes meanwhile */
  struct conn *c = conn_of(w, direction);
  if (!c || c->denied)
    return 0;
  struct end *own = END_OF(c, w->own), *peer = END_OF(c, !w->own);
  if (own->endpoint != id || own->judged != generation || !own->cookie)
    return 0;
  if (direction == DIRECTION_INGRESS && is_forged(skb, peer->endpoint, cfg))
    return 0;
  withdraw_marked(own, peer);
  if (direction == DIRECTION_INGRESS)
    return held(own, peer, &w->packet) ? HOLD : PASS_ON;
  if (!(c->flags & CONN_FLAGS_PROXY)) /* else the hooks of the proxy's interface do it (bpf/proxy.c) */
    consider(skb, &w->packet, c, own, peer, cfg, PROXYS_NEITHER);
  int how = straight(w, c, own, peer, generation);
  return how ? how : PASS_ON;
}

/* Whether a packet without a conntrack entry answers an open connection: the entry was evicted, the socket is alive. */
static __always_inline int evicted_reply(struct scratch *w, u32 id, u8 direction) {
  struct conn *c = conn_of(w, direction);
  return c && initiator(c) != w->side;
}

/* Whether a connection is open that sock_ops knows nothing of. At its own end that hook has been there before the first
 * packet but SYN; at the other end before anything but SYN-ACK came from there. */
static __always_inline int unrecorded(struct scratch *w, const struct ct_entry *e, u8 direction, int reply) {
  if (direction != DIRECTION_EGRESS || w->packet.proto != IPPROTO_TCP || w->packet.tcp_flags & (TCP_SYN | TCP_RST) ||
      e->flags & (CT_FLAG_REPORTED | CT_FLAG_AUDITED | CT_FLAG_TRACKED) || (!reply && e->rx_packets < 2))
    return 0;
  return !conn_of(w, direction);
}

/* Remember that this pod's policy let its connection pass, so that the next packet is fast. Returns HOLD where this one
 * must come again (bpf/enrol.h). */
static __always_inline int judged(struct scratch *w, u32 id, u8 direction, u32 generation) {
  struct conn *c = conn_of(w, direction);
  if (!c || c->denied)
    return PASS_ON;
  struct end *own = END_OF(c, w->own);
  if (own->endpoint != id)
    return PASS_ON;
  own->judged = generation;
  return direction == DIRECTION_INGRESS && held(own, END_OF(c, !w->own), &w->packet) ? HOLD : PASS_ON;
}

/* Needs kernel 5.10, and at the other end of the interface another namespace. */
static __always_inline int deliver(struct __sk_buff *skb, u32 ifindex, u32 id) {
  pass(skb, DIRECTION_EGRESS, id);
  pass(skb, DIRECTION_INGRESS, id);
  count(METRIC_DIRECT_PACKETS, id);
  bpf_skb_change_type(skb, 0 /* PACKET_HOST: its link address may be of a hop that it skips */);
  return bpf_redirect_peer(ifindex, 0);
}
