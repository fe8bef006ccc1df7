/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * bpf/'s policy look-up, address and packet code behind plain functions, for native.py. Tables are arrays of rows, each
 * a key and its value; all but the ipcache are sorted by key.
 */
#include <stdlib.h>
#include <string.h>
#include "shim.h"

#include "../../bpf/policy.h"

#include "../../bpf/conntrack.h"

struct table {
  const u8 *rows;
  u32 count;
  u32 key_size;
  u32 value_size;
};

enum { POLICY, ENDPOINTS, ENDPOINT_IPS, IPCACHE, TABLES };
static struct edition the_edition;
static struct table tables[TABLES];

static void *find(const struct table *t, const void *key) {
  u32 low = 0, high = t->count, width = t->key_size + t->value_size;
  while (low < high) {
    u32 middle = (low + high) / 2;
    const u8 *row = t->rows + (u64)middle * width;
    int order = memcmp(row, key, t->key_size);
    if (!order)
      return (void *)(row + t->key_size);
    if (order < 0)
      low = middle + 1;
    else
      high = middle;
  }
  return 0;
}

static struct policy_value *find_policy(struct policy_key *k) {
  return find(&tables[POLICY], k);
}

static struct endpoint *find_endpoint(struct endpoint_key *k) {
  return find(&tables[ENDPOINTS], k);
}

static struct endpoint_ref *find_endpoint_ip(struct addr_key *k) {
  return find(&tables[ENDPOINT_IPS], k);
}

/* The longest range that holds the address. */
static struct ipcache_value *find_ipcache(struct ipcache_key *k) {
  const struct table *t = &tables[IPCACHE];
  struct ipcache_value *best = 0;
  u32 best_length = 0;
  for (u32 i = 0; i < t->count; i++) {
    const u8 *row = t->rows + (u64)i * (t->key_size + t->value_size);
    const struct ipcache_key *entry = (const struct ipcache_key *)row;
    u32 bytes = entry->prefixlen / 8, bits = entry->prefixlen % 8;
    if (memcmp(entry->addr, k->addr, bytes))
      continue;
    if (bits && (entry->addr[bytes] ^ k->addr[bytes]) >> (8 - bits))
      continue;
    if (best && entry->prefixlen <= best_length)
      continue;
    best = (struct ipcache_value *)(row + t->key_size);
    best_length = entry->prefixlen;
  }
  return best;
}

static struct edition *find_edition(u32 *k) {
  (void)k;
  return &the_edition;
}

static struct counter *find_counter(u32 *k) {
  (void)k;
  return 0;
}

void native_table(u32 which, const void *rows, u32 count, u32 key_size, u32 value_size) {
  tables[which] = (struct table){rows, count, key_size, value_size};
  policy.lookup = find_policy;
  endpoints.lookup = find_endpoint;
  endpoint_ips.lookup = find_endpoint_ip;
  ipcache.lookup = find_ipcache;
  counters.lookup = find_counter;
  edition.lookup = find_edition;
}

void native_edition(u32 state) {
  the_edition.state = state;
}

void native_ask(struct answer *out, struct endpoint *ep, u32 direction, u32 now, u32 next, u32 proto, u32 port) {
  struct identities peer = {.now = now, .next = next};
  ask(out, ep, ep->id, direction, peer, proto, port, 1);
}

void native_ask_pair(struct pair *out, const u8 *src, const u8 *dst, u32 proto, u32 port) {
  ask_pair(out, src, dst, proto, port, 1);
}

int native_conn_side(struct conn_key *k, const u8 *local, const u8 *remote, u32 lport, u32 rport) {
  return conn_side(k, local, remote, lport, rport);
}

/* Parse an Ethernet frame as judge() in bpf/tc.c does. Returns the DropReason, 0 when all is well. */
u32 native_parse(struct packet *p, const u8 *frame, u32 size) {
  struct __sk_buff skb = {.len = size};
  u32 l4 = 0;
  packet_data = frame;
  packet_size = size;
  memset(p, 0, sizeof(*p));
  u16 ethertype = frame[12] << 8 | frame[13];
  u32 reason = ethertype == ETH_IP ? parse_v4(&skb, p, 14, &l4) : parse_v6(&skb, p, 14, &l4);
  if (!reason && !p->later_fragment)
    reason = parse_l4(&skb, p, l4);
  return reason;
}

int native_is_icmp_error(const struct packet *p) {
  return is_icmp_error(p);
}

int native_is_link_control(const struct packet *p) {
  return is_link_control(p);
}

int native_ct_expired(const struct ct_entry *e, u32 proto, u64 now, const struct config *cfg) {
  return ct_expired(e, proto, now, cfg);
}

void native_ct_keys(struct ct_key *forward, struct ct_key *reverse, u32 ep, u32 direction, const struct packet *p) {
  memset(forward, 0, sizeof(*forward));
  memset(reverse, 0, sizeof(*reverse));
  ct_key_forward(forward, ep, direction, p);
  ct_key_reverse(reverse, ep, direction, p);
}
