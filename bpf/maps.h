/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * The maps, opened by their pins. The loader made and checked them before it compiled this (loader/maps.py), so that
 * every program of one agent shares them and they outlive it.
 */
#pragma once
#include <uapi/linux/bpf.h>
#include <uapi/linux/in.h>
#include "mesh_abi.h"

#define MESH_TABLE(type, key_t, leaf_t, name, max, flags) \
  BPF_F_TABLE(type ":" PIN_DIR "/maps/" #name, key_t, leaf_t, name, max, flags)

MESH_TABLE("array", u32, struct config, config, 1, 0);
MESH_TABLE("array", u32, struct edition, edition, 1, 0);
MESH_TABLE("hash", struct endpoint_key, struct endpoint, endpoints, MAX_ENDPOINTS, 0);
MESH_TABLE("hash", struct addr_key, struct endpoint_ref, endpoint_ips, MAX_ENDPOINT_IPS, 0);
MESH_TABLE("hash", struct netns_key, struct endpoint_ref, endpoint_netns, MAX_ENDPOINT_NETNS, 0);
MESH_TABLE("hash", struct iface_key, struct endpoint_ref, endpoint_ifaces, MAX_ENDPOINT_IFACES, 0);
MESH_TABLE("lpm_trie", struct ipcache_key, struct ipcache_value, ipcache, MAX_IPCACHE, 1);
MESH_TABLE("hash", struct policy_key, struct policy_value, policy, MAX_POLICY, 0);
MESH_TABLE("lru_hash", struct ct_key, struct ct_entry, ct, MAX_CT, 0);
MESH_TABLE("hash", struct conn_key, struct conn, conns, MAX_CONNS, 0);
MESH_TABLE("hash", struct service_key, struct service, services, MAX_SERVICES, 0);
MESH_TABLE("hash", struct backend_key, struct backend, backends, MAX_BACKENDS, 0);
MESH_TABLE("lru_hash", struct reverse_key, struct reverse_value, reverse, MAX_REVERSE, 0);
MESH_TABLE("lru_hash", struct frag_key, struct frag_value, frags, MAX_FRAGS, 0);
MESH_TABLE("lru_hash", struct endpoint_key, struct caught, caught, MAX_CAUGHT, 0);
MESH_TABLE("lru_hash", struct road_key, struct road, roads, MAX_ROADS, 0);
MESH_TABLE("percpu_array", u32, struct counter, counters, MAX_COUNTERS, 0);
MESH_TABLE("percpu_hash", struct traffic_key, struct traffic_value, traffic, MAX_TRAFFIC, 0);

/* bcc has no pinned form of these two, so their tables are spelled out. */
struct socks_table_t {
  struct cookie_key key;
  struct cookie_key leaf;
  int (*update)(struct cookie_key *, void *);
  int (*delete)(struct cookie_key *);
  int (*msg_redirect_hash)(void *, struct cookie_key *, u64);
  u32 max_entries;
  int flags;
};
__attribute__((section("maps/sockhash:" PIN_DIR "/maps/socks"))) struct socks_table_t socks = {
    .max_entries = MAX_SOCKS,
};
BPF_ANNOTATE_KV_PAIR(socks, struct cookie_key, struct cookie_key);

struct events_table_t {
  int key;
  u32 leaf;
  void *(*ringbuf_reserve)(u64);
  void (*ringbuf_submit)(void *, u64);
  u32 max_entries;
};
__attribute__((section("maps/ringbuf:" PIN_DIR "/maps/events"))) struct events_table_t events = {
    .max_entries = MAX_EVENTS,
};

/* Endpoints and policy sets from here on are the self-test's (loader/selftest/reserved.py). The figures tell of the
 * node's pods, so what its pods do is in none of them: whoever counts says for which endpoint (0: for none). */
#define FIRST_SELF_TEST 0xffffff00u

static __always_inline void count_by(u32 metric, u64 by, u32 endpoint) {
  if (endpoint >= FIRST_SELF_TEST)
    return;
  struct counter *c = counters.lookup(&metric);
  if (c)
    c->value += by;
}

static __always_inline void count(u32 metric, u32 endpoint) {
  count_by(metric, 1, endpoint);
}
