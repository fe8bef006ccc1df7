/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The node proxy's own hooks: what its interface sends finds its way, as if from the pod in whose name it is; what comes
 * there finds a listening socket, whatever address and port it is for; and the proxy asks who talks to whom. Both hooks of
 * the interface enrol sockets in the short cut, the proxy's and its peers', as the packet hooks of a pod do (bpf/open.h).
 */
#include "conntrack.h"
#include "detour.h"
#include "enrol.h"

struct doors_table_t {
  u32 key;
  u64 leaf;
  void *(*lookup)(u32 *);
  u32 max_entries;
  int flags;
};
__attribute__((section("maps/sockmap:" PIN_DIR "/maps/doors"))) struct doors_table_t doors = {
    .max_entries = MAX_DOORS,
};
BPF_ANNOTATE_KV_PAIR(doors, u32, u64);

static __always_inline struct ct_entry *led_to_proxy(struct ct_key *k, u32 endpoint, u8 direction) {
  k->endpoint = endpoint;
  k->direction = direction;
  struct ct_entry *e = endpoint ? ct.lookup(k) : 0;
  return e && e->flags & CT_FLAG_TO_PROXY ? e : 0;
}

/* Send a packet on: into the pod that it is for, or as if from the pod whose address it bears. `other`: the endpoint at
 * `far`; a far end on another node may have a proxy there that speaks for it, so that no packet of its own has come. */
static __always_inline int send_on(struct __sk_buff *skb, u32 pod, const u8 *far, u32 other, int into) {
  struct road_key k ALIGNED = {.endpoint = pod};
  u8 mac[8] ALIGNED = PROXY_MAC;
  __builtin_memcpy(k.addr, far, 16);
  struct endpoint *ep = pod ? endpoint_by_id(pod) : 0;
  if (!ep)
    return 0;
  struct road *r = roads.lookup(&k);
  u64 to = ep->mac, from = *(u64 *)mac;
  if (r) {
    to = into ? r->pod : r->far;
    from = into ? r->far : r->pod;
  } else if (!into || other || !to) {
    return 0;
  }
  u32 ifindex = ep->ifindex;
  if (!ifindex || !is_still_of(ep, pod) || bpf_skb_store_bytes(skb, 0, &to, 6, 0) ||
      bpf_skb_store_bytes(skb, 6, &from, 6, 0))
    return 0;
  mark_as_proxys(skb);
  return 1 + bpf_redirect(ifindex, into ? 0 : BPF_F_INGRESS);
}

/* Read a packet of the proxy's interface; 0 where it is none of TCP's nor of UDP's. */
static __always_inline struct scratch *packet_of(struct __sk_buff *skb) {
  u32 zero = 0, l4 = 0;
  struct scratch *w = scratch.lookup(&zero);
  if (!w)
    return 0;
  struct packet *p = &w->packet;
  __builtin_memset(p, 0, sizeof(*p));
  u16 ethertype = bpf_ntohs(skb->protocol);
  u32 reason = ethertype == ETH_IP     ? parse_v4(skb, p, 14, &l4)
               : ethertype == ETH_IPV6 ? parse_v6(skb, p, 14, &l4)
                                       : 1;
  if (!reason && l4 && !p->later_fragment)
    reason = parse_l4(skb, p, l4);
  return reason || (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP) ? 0 : w;
}

/* What the short cut wants of a packet between the proxy and a pod; whether it must wait. `is_proxys`: the proxy sends it. */
static __always_inline int must_wait(struct __sk_buff *skb, struct scratch *w, int is_proxys) {
  struct packet *p = &w->packet;
  struct conn_key k ALIGNED = {};
  if (p->proto != IPPROTO_TCP || p->tcp_flags & TCP_SYN || p->frag_id)
    return 0;
  int side = conn_side(&k, p->saddr, p->daddr, p->sport, p->dport);
  struct conn *c = conns.lookup(&k);
  struct config *cfg = get_config();
  if (!c || !cfg || c->denied || !(c->flags & CONN_FLAGS_PROXY) || is_proxys_end(c, side) != is_proxys)
    return 0;
  struct end *own = END_OF(c, side), *peer = END_OF(c, !side);
  withdraw_marked(own, peer);
  consider(skb, p, c, own, peer, cfg, is_proxys ? PROXYS_OWN : PROXYS_PEER);
  return held(peer, own, p);
}

/* egress of the host side of the proxy's interface */
int toward_proxy(struct __sk_buff *skb) {
  struct scratch *w = packet_of(skb);
  return w && must_wait(skb, w, 0) ? TC_DROP : TC_PASS;
}

/* ingress of the host side of the proxy's interface */
int from_proxy(struct __sk_buff *skb) {
  struct scratch *w = packet_of(skb);
  if (!w)
    return TC_DROP; /* its kernel's own: neighbour discovery, say */
  struct packet *p = &w->packet;
  if (must_wait(skb, w, 1))
    return TC_DROP;
  u32 src = endpoint_id_by_addr(p->saddr), dst = endpoint_id_by_addr(p->daddr);
  struct ct_key *k = &w->key;
  ct_key_reverse(k, dst, DIRECTION_INGRESS, p);
  int how = 0;
  if (led_to_proxy(k, dst, DIRECTION_EGRESS))
    how = send_on(skb, dst, p->saddr, src, 1);
  else if (led_to_proxy(k, src, DIRECTION_INGRESS))
    how = send_on(skb, src, p->daddr, dst, 0);
  else {
    how = send_on(skb, src, p->daddr, dst, 0);
    if (!how)
      how = send_on(skb, dst, p->saddr, src, 1);
  }
  if (!how)
    count(METRIC_PROXY_LOST, 0);
  return how ? how - 1 : TC_DROP;
}

BPF_ARRAY(turn, u32, 1);

/* Every address and every port of the proxy's namespace is its door. The first half of the slots has sockets of TCP, of
 * each worker as many, the others have UDP's. Clients of TCP are dealt out in turn: the kernel's own choice among sockets at
 * one place is by chance, and of a few connections that live long one worker may get all. */
int to_door(struct bpf_sk_lookup *ctx) {
  u32 zero = 0, slots = MAX_DOORS / 2, slot = slots;
  u64 how = 0;
  if (ctx->protocol != IPPROTO_UDP) {
    u32 *next = turn.lookup(&zero);
    slot = next ? (*next)++ % slots : 0; /* two at once may get the same one: no harm */
    how = 2 /* BPF_SK_LOOKUP_F_NO_REUSEPORT */;
  }
  struct bpf_sock *sk = doors.lookup(&slot);
  if (!sk)
    return SK_DROP;
  long failed = bpf_sk_assign(ctx, sk, how);
  bpf_sk_release(sk);
  return failed ? SK_DROP : SK_PASS;
}

#define WHO_ASKS 0x5e50  /* of an accepted socket: the server's address is its own */
#define WHO_WOULD 0x5e51 /* of a UDP socket with a client's address, connected to a TCP server's; nothing need be sent */
#define SOL_IP_LEVEL 0

/* One end's part in a connection, for the proxy: its policy set and who the other end is, where it wants the proxy asked. */
static __always_inline void part(struct proxy_side *out, u32 id, u8 direction, struct identities peer, u8 proto, u16 port) {
  struct endpoint *ep = id ? endpoint_by_id(id) : 0;
  if (!ep)
    return;
  struct answer a;
  u32 state = edition_state();
  int next = state == EDITION_STATE_NEXT;
  struct decision d;
  ask_of(&d, &a, ep, id, direction, peer, proto, port, 1, 1);
  out->verdict = a.verdict;
  out->rule_id = a.rule_id;
  out->peer = next ? peer.next : peer.now;
  out->set_id = next && ep->next_set_id ? ep->next_set_id : ep->set_id;
  out->endpoint = id;
  out->identity = identity_in(ep, id);
  if (!is_still_of(ep, id))
    out->verdict = VERDICT_DENY;
}

int who_asks(struct bpf_sockopt *ctx) {
  if (ctx->level != SOL_IP_LEVEL || (ctx->optname != WHO_ASKS && ctx->optname != WHO_WOULD))
    return 1;
  struct proxy_facts *out = ctx->optval;
  if ((void *)(out + 1) > ctx->optval_end || !ctx->sk)
    return 1;
  struct bpf_sock *sk = ctx->sk;
  u8 server[16] ALIGNED, client[16] ALIGNED, far[16] ALIGNED;
  if (sk->family == AF_INET) {
    addr_v4(server, LOAD(sk, src_ip4, 4));
    addr_v4(far, LOAD(sk, dst_ip4, 4));
  } else {
    addr_v6(server, LOAD(sk, src_ip6[0], 0), LOAD(sk, src_ip6[1], 1), LOAD(sk, src_ip6[2], 2), LOAD(sk, src_ip6[3], 3));
    addr_v6(far, LOAD(sk, dst_ip6[0], 0), LOAD(sk, dst_ip6[1], 1), LOAD(sk, dst_ip6[2], 2), LOAD(sk, dst_ip6[3], 3));
  }
  u16 port = LOAD(sk, src_port, 5), far_port = bpf_ntohs((u16)LOAD(sk, dst_port, 6));
  u8 proto = LOAD(sk, protocol, 7);
  if (ctx->optname == WHO_WOULD) {
    if (proto != IPPROTO_UDP || !far_port)
      return 1;
    proto = IPPROTO_TCP;
    port = far_port;
    __builtin_memcpy(client, server, 16);
    __builtin_memcpy(server, far, 16);
  } else {
    __builtin_memcpy(client, far, 16);
  }
  u32 from = endpoint_id_by_addr(client), to = endpoint_id_by_addr(server);
  struct identities source = identities_at(client), target = identities_at(server);
  __builtin_memset(out, 0, sizeof(*out));
  struct config *cfg = get_config();
  if (cfg)
    out->generation = cfg->generation;
  out->source = current(source);
  out->target = current(target);
  if (cfg && cfg->mtls != MTLS_OFF && proto == IPPROTO_TCP && target.flags & IPCACHE_FLAG_MESH)
    out->flags = PROXY_FACTS_FLAG_MESH;
  part(&out->side[DIRECTION_EGRESS], from, DIRECTION_EGRESS, target, proto, port);
  part(&out->side[DIRECTION_INGRESS], to, DIRECTION_INGRESS, source, proto, port);
  ctx->optlen = sizeof(*out);
  asm volatile("" ::: "memory"); /* one store for both the verifier would refuse */
  ctx->retval = 0;
  return 1;
}
