/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Which connections an endpoint's policy has let through, so that replies pass and so that a packet costs a look-up
 * instead of a verdict. An entry remembers the policy generation it was made under; after a change it is asked again
 * before the next packet passes, in either direction.
 */
#pragma once
#include "flow.h"
#include "packet.h"

static __always_inline void ct_key_forward(struct ct_key *k, u32 ep, u8 direction, const struct packet *p) {
  __builtin_memcpy(k->saddr, p->saddr, 16);
  __builtin_memcpy(k->daddr, p->daddr, 16);
  k->endpoint = ep;
  k->sport = p->sport;
  k->dport = p->dport;
  k->proto = p->proto;
  k->direction = direction;
  k->pad = 0;
}

static __always_inline void ct_key_reverse(struct ct_key *k, u32 ep, u8 direction, const struct packet *p) {
  __builtin_memcpy(k->saddr, p->daddr, 16);
  __builtin_memcpy(k->daddr, p->saddr, 16);
  k->endpoint = ep;
  k->sport = p->dport;
  k->dport = p->sport;
  k->proto = p->proto;
  k->direction = !direction;
  k->pad = 0;
}

static __always_inline int ct_expired(const struct ct_entry *e, u8 proto, u64 now, const struct config *cfg) {
  u32 limit = proto == IPPROTO_TCP ? (e->flags & CT_FLAG_CLOSING ? cfg->tcp_close_timeout_s : cfg->tcp_timeout_s)
              : proto == IPPROTO_ICMP || proto == 58 ? cfg->icmp_timeout_s
                                                     : cfg->udp_timeout_s;
  /* Signed: a packet on another core may have been seen since `now` was. */
  return (s64)(now - e->last_seen) > (s64)limit * 1000000000ll;
}

#define CT_FLAGS_FIN (CT_FLAG_FIN_SENT | CT_FLAG_FIN_ANSWERED)

static __always_inline void ct_seen(struct ct_entry *e, const struct packet *p, u32 len, int reply, u64 now) {
  e->last_seen = now;
  if (reply) {
    if (!(e->flags & CT_FLAG_SEEN_REPLY)) /* seldom written: another core may be putting a FIN in */
      e->flags |= CT_FLAG_SEEN_REPLY;
    e->rx_packets++;
    e->rx_bytes += len;
  } else {
    e->tx_packets++;
    e->tx_bytes += len;
  }
  if (p->proto != IPPROTO_TCP || !(p->tcp_flags & (TCP_FIN | TCP_RST)))
    return;
  u32 flags = e->flags | (reply ? CT_FLAG_FIN_ANSWERED : CT_FLAG_FIN_SENT);
  if (p->tcp_flags & TCP_RST || (flags & CT_FLAGS_FIN) == CT_FLAGS_FIN) /* who has shut down may be answered for hours */
    flags |= CT_FLAG_CLOSING;
  e->flags = flags;
}

/* Whether the peer of an answer has another pod's address by now, or its address has another pod: what this packet would
 * answer was said to somebody else. TCP's are cut by the agent. */
static __always_inline int is_anothers(const struct ct_entry *e, const struct packet *p, u8 direction, u32 generation) {
  return e->generation != generation && p->proto != IPPROTO_TCP &&
         e->peer_endpoint != endpoint_id_by_addr(direction == DIRECTION_EGRESS ? p->daddr : p->saddr);
}
