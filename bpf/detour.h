/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The way through the node proxy, as the packet hooks of a pod see it. The proxy stands in a network namespace that has no
 * address. A connection that it is to look into becomes two: the one that the client began, whose packets are led to the
 * proxy (CT_FLAG_TO_PROXY), and one that the proxy begins from the client's address, another port, to the same server
 * (CT_FLAG_FROM_PROXY). What the proxy sends bears a mark, which only its interface's hook gives: a pod's packet loses its
 * mark on its way out of the pod's namespace. Nothing else of either connection may be anybody else's.
 */
#pragma once
#include "report.h"

#define PROXY_MARK 0x5e500000u
#define PROXY_MARK_MASK 0xfff00000u
#define PROXY_STAMP 0x4000 /* in skb->tc_index, for the hook of the pod where it arrives: a host's filters set marks, too */

/* The proxy's own interface has this link address. */
#define PROXY_MAC {0x02, 0x5e, 0x50, 0x00, 0x00, 0x01}

static __always_inline void mark_as_proxys(struct __sk_buff *skb) {
  skb->mark = (skb->mark & ~PROXY_MARK_MASK) | PROXY_MARK;
  skb->tc_index = PROXY_STAMP;
}

static __always_inline u32 is_proxys(const struct __sk_buff *skb, u8 direction) {
  return (skb->mark & PROXY_MARK_MASK) == PROXY_MARK &&
         (direction == DIRECTION_EGRESS || (skb->tc_index & PROXY_STAMP) == PROXY_STAMP);
}

#define CT_FLAGS_PROXY (CT_FLAG_TO_PROXY | CT_FLAG_FROM_PROXY)

#define THROUGH 0   /* on as it goes */
#define TO_PROXY 1
#define ASTRAY 2    /* neither the proxy's nor its peers' */

/* Where a packet of a connection goes. */
static __always_inline int detour(u32 flags, u32 is_from_proxy, int reply) {
  if (!(flags & CT_FLAGS_PROXY))
    return is_from_proxy ? ASTRAY : THROUGH;
  int proxy_answers = !!(flags & CT_FLAG_TO_PROXY);
  if (!!reply == proxy_answers)
    return is_from_proxy ? THROUGH : ASTRAY;
  return is_from_proxy ? ASTRAY : TO_PROXY;
}

/* What mTLS between nodes makes of a connection with a pod of another node that policy allows: one that begins here goes by
 * the proxy, one that begins there comes from the proxy. What is open already stays as it is where plaintext is let in. */
static __always_inline void demand_mtls(struct scratch *w, struct answer *a) {
  int strict = w->mtls == MTLS_STRICT, out = w->key.direction == DIRECTION_EGRESS;
  if (w->mtls == MTLS_OFF || a->verdict == VERDICT_DENY)
    return;
  if (strict && (out ? w->by_proxy || !w->fits : !w->by_proxy)) {
    a->verdict = VERDICT_DENY;
    a->reason = DROP_REASON_AUTH_REQUIRED;
    a->rule_id = 0; /* of the rule that allows it */
  } else if (out && w->fits) {
    a->verdict = VERDICT_PROXY;
  }
}

/* Lead a packet to the proxy, and leave there how one that the proxy sends in its stead will find its way. */
static __always_inline int to_proxy(struct __sk_buff *skb, struct scratch *w, u32 ifindex, u8 direction, u32 id, int first) {
  const struct packet *p = &w->packet;
  int out = direction == DIRECTION_EGRESS;
  u8 mac[8] = PROXY_MAC;
  if (first) {
    struct road_key k ALIGNED = {.endpoint = id};
    struct road r ALIGNED = {};
    __builtin_memcpy(k.addr, out ? p->daddr : p->saddr, 16);
    if (bpf_skb_load_bytes(skb, out ? 6 : 0, &r.pod, 6) || bpf_skb_load_bytes(skb, out ? 0 : 6, &r.far, 6))
      return TC_DROP;
    roads.update(&k, &r);
  }
  pass(skb, direction, id);
  count(METRIC_PROXY_PACKETS, id);
  if (bpf_skb_store_bytes(skb, 0, mac, 6, 0))
    return TC_DROP;
  return bpf_redirect(ifindex, 0);
}
