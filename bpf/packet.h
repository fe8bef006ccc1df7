/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Parses one packet to the fields policy needs: addresses, protocol, ports (or ICMP type), fragments, and for an ICMP
 * error the packet it is about. RFC 791, 792, 4443, 8200.
 */
#pragma once
#include "ctx.h"

#define ETH_IP 0x0800
#define ETH_IPV6 0x86dd
#define ETH_ARP 0x0806

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

struct packet {
  u8 saddr[16];
  u8 daddr[16];
  u16 sport; /* ICMP echo: see icmp_tuple */
  u16 dport;
  u16 policy_port; /* the destination port, or the ICMP type */
  u8 proto;
  u8 tcp_flags;
  u8 icmp_type;
  u8 icmp_code;
  u8 hop_limit;
  u8 related;  /* an ICMP error: the tuple is that of the packet it is about */
  u32 frag_id; /* 0: not a fragment */
  u8 later_fragment;
  u8 icmp; /* 1: ICMP or ICMPv6 */
  u8 multicast;    /* 1: to a multicast group of the link, from an address of the link or none (IPv6) */
  u8 pad;
  u32 payload; /* bytes behind the TCP header */
  u32 seq;     /* TCP's sequence number of the first of them, or of SYN */
} ALIGNED;

/* Echo is a conversation: give request and reply tuples that are each other's reverse, the identifier on one side. What
 * else there is has none: with an identifier of the sender's choice it could pass for the answer to an echo. */
static __always_inline void icmp_tuple(struct packet *p, u16 ident) {
  u8 request = p->proto == IPPROTO_ICMP ? 8 : 128, reply = p->proto == IPPROTO_ICMP ? 0 : 129;
  if (p->icmp_type == reply) {
    p->sport = request;
    p->dport = ident;
  } else {
    p->sport = p->icmp_type == request ? ident : 0;
    p->dport = p->icmp_type;
  }
}

static __always_inline int is_echo_request(const struct packet *p) {
  return p->icmp && p->icmp_type == (p->proto == IPPROTO_ICMP ? 8 : 128);
}

/* An echo reply that answers nothing is no conversation: it gets the tuple of whatever has no identifier. */
static __always_inline void unsolicited(struct packet *p) {
  if (p->icmp && p->icmp_type == (p->proto == IPPROTO_ICMP ? 0 : 129)) {
    p->sport = 0;
    p->dport = p->icmp_type;
  }
}

/* Read the transport header at off. Returns a DropReason, 0 when all is well. */
static __always_inline u32 parse_l4(struct __sk_buff *skb, struct packet *p, u32 off) {
  u16 ports[2];
  switch (p->proto) {
  case IPPROTO_TCP: {
    u32 seq;
    if (bpf_skb_load_bytes(skb, off, ports, 4) || bpf_skb_load_bytes(skb, off + 4, &seq, 4))
      return DROP_REASON_INVALID_PACKET_DROPPED;
    p->seq = bpf_ntohl(seq);
    /* offset and flags may lie outside the eight bytes an ICMP error quotes */
    if (!p->related) {
      u8 more[2];
      if (bpf_skb_load_bytes(skb, off + 12, more, 2))
        return DROP_REASON_INVALID_PACKET_DROPPED;
      u32 head = off + (more[0] >> 4) * 4;
      p->tcp_flags = more[1];
      p->payload = skb->len > head ? skb->len - head : 0;
    }
    break;
  }
  case IPPROTO_UDP:
  case 132: /* SCTP */
    if (bpf_skb_load_bytes(skb, off, ports, 4))
      return DROP_REASON_INVALID_PACKET_DROPPED;
    break;
  case IPPROTO_ICMP:
  case 58: { /* ICMPv6 */
    u8 head[8];
    if (bpf_skb_load_bytes(skb, off, head, 8))
      return DROP_REASON_INVALID_PACKET_DROPPED;
    p->icmp = 1;
    p->icmp_type = head[0];
    p->icmp_code = head[1];
    p->policy_port = head[0];
    icmp_tuple(p, (u16)head[4] << 8 | head[5]);
    return 0;
  }
  default:
    return 0; /* no ports: a rule for all of this protocol can match, or one for all protocols */
  }
  p->sport = bpf_ntohs(ports[0]);
  p->dport = bpf_ntohs(ports[1]);
  p->policy_port = p->dport;
  return 0;
}

static __always_inline u32 parse_v4(struct __sk_buff *skb, struct packet *p, u32 off, u32 *l4) {
  u8 h[20];
  if (bpf_skb_load_bytes(skb, off, h, 20) || (h[0] >> 4) != 4 || (h[0] & 15) < 5)
    return DROP_REASON_INVALID_PACKET_DROPPED;
  u32 saddr, daddr;
  __builtin_memcpy(&saddr, h + 12, 4);
  __builtin_memcpy(&daddr, h + 16, 4);
  addr_v4(p->saddr, saddr);
  addr_v4(p->daddr, daddr);
  p->proto = h[9];
  p->hop_limit = h[8];
  u16 frag = (u16)h[6] << 8 | h[7];
  if (frag & 0x3fff) { /* more fragments, or an offset */
    p->frag_id = (u32)h[4] << 8 | h[5] | 0x80000000;
    p->later_fragment = (frag & 0x1fff) != 0;
  }
  *l4 = off + (h[0] & 15) * 4;
  return 0;
}

/* What nearly all packets are: TCP, with an IPv4 header without options, unfragmented. Returns 0 for all others. */
static __always_inline int parse_usual(struct __sk_buff *skb, struct packet *p) {
  void *end = (void *)(long)skb->data_end;
  u8 *h = (void *)(long)skb->data + 14;
  if ((void *)(h + 40) > end || h[0] != 0x45 || h[9] != IPPROTO_TCP || h[6] & 0x3f || h[7])
    return 0;
  u32 *w = (u32 *)h;
  u16 *ports = (u16 *)(h + 20);
  addr_v4(p->saddr, w[3]);
  addr_v4(p->daddr, w[4]);
  p->proto = IPPROTO_TCP;
  p->hop_limit = h[8];
  p->sport = bpf_ntohs(ports[0]);
  p->dport = bpf_ntohs(ports[1]);
  p->policy_port = p->dport;
  p->tcp_flags = h[33];
  p->seq = bpf_ntohl(w[6]);
  u32 head = 34 + (h[32] >> 4) * 4;
  p->payload = skb->len > head ? skb->len - head : 0;
  return 1;
}

static __always_inline u32 parse_v6(struct __sk_buff *skb, struct packet *p, u32 off, u32 *l4) {
  u8 h[40];
  if (bpf_skb_load_bytes(skb, off, h, 40) || (h[0] >> 4) != 6)
    return DROP_REASON_INVALID_PACKET_DROPPED;
  __builtin_memcpy(p->saddr, h + 8, 16);
  __builtin_memcpy(p->daddr, h + 24, 16);
  u8 next = h[6];
  p->hop_limit = h[7];
  /* ff02::/16 from fe80::/10 or :: */
  p->multicast = h[24] == 0xff && (h[25] & 15) == 2 && ((h[8] == 0xfe && (h[9] & 0xc0) == 0x80) || addr_is_any(p->saddr));
  off += 40;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 6; i++) {
    u8 e[8];
    if (next != 0 && next != 43 && next != 44 && next != 60)
      break; /* not hop-by-hop, routing, fragment or destination options */
    if (i == 5 || bpf_skb_load_bytes(skb, off, e, 8))
      return DROP_REASON_INVALID_IPV6_EXTENSION_HEADER;
    if (next == 44) {
      u16 frag = (u16)e[2] << 8 | e[3];
      if (frag & 0xfff9) {
        p->frag_id = ((u32)e[4] << 24 | (u32)e[5] << 16 | (u32)e[6] << 8 | e[7]) | 0x80000000;
        p->later_fragment = (frag & 0xfff8) != 0;
      }
      off += 8;
    } else {
      off += 8 + (u32)e[1] * 8;
    }
    next = e[0];
    if (p->later_fragment)
      break; /* what follows is payload */
  }
  p->proto = next;
  *l4 = off;
  return 0;
}

static __always_inline int is_icmp_error(const struct packet *p) {
  if (p->proto == IPPROTO_ICMP)
    return p->icmp_type == 3 || p->icmp_type == 4 || p->icmp_type == 5 || p->icmp_type == 11 || p->icmp_type == 12;
  return p->proto == 58 && p->icmp_type >= 1 && p->icmp_type <= 4;
}

/* Neighbour discovery and multicast listener messages: without them IPv6 does not work, and they stay on the link. What
 * they may look like is fixed, so that nothing else passes for one. RFC 4861 7.1, 2710 3, 3810 5. */
static __always_inline int is_link_control(const struct packet *p) {
  if (p->proto != 58)
    return 0;
  if (p->icmp_type >= 133 && p->icmp_type <= 137)
    return p->hop_limit == 255; /* RFC 4861: cannot have crossed a router */
  return ((p->icmp_type >= 130 && p->icmp_type <= 132) || p->icmp_type == 143) && p->hop_limit == 1 && p->multicast;
}
