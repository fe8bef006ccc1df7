/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Written by `python -m loader.abi`; edit loader/abi/ instead. */
#pragma once
#include <linux/types.h>

enum verdict {
  VERDICT_DENY = 0,
  VERDICT_ALLOW = 1,
  VERDICT_PROXY = 2,
};

enum direction {
  DIRECTION_INGRESS = 0,
  DIRECTION_EGRESS = 1,
};

enum rank {
  RANK_DEFAULT = 0,
  RANK_ALLOW = 1,
  RANK_PROXY = 100,
  RANK_DENY = 254,
};

enum proto {
  PROTO_ANY = 0,
  PROTO_ICMP = 1,
  PROTO_IGMP = 2,
  PROTO_IPIP = 4,
  PROTO_TCP = 6,
  PROTO_UDP = 17,
  PROTO_IPV6 = 41,
  PROTO_GRE = 47,
  PROTO_ESP = 50,
  PROTO_AH = 51,
  PROTO_ICMPV6 = 58,
  PROTO_VRRP = 112,
  PROTO_SCTP = 132,
};

enum reserved_identity {
  RESERVED_IDENTITY_UNKNOWN = 0,
  RESERVED_IDENTITY_HOST = 1,
  RESERVED_IDENTITY_WORLD = 2,
  RESERVED_IDENTITY_UNMANAGED = 3,
  RESERVED_IDENTITY_HEALTH = 4,
  RESERVED_IDENTITY_INIT = 5,
  RESERVED_IDENTITY_REMOTE_NODE = 6,
  RESERVED_IDENTITY_KUBE_APISERVER = 7,
  RESERVED_IDENTITY_INGRESS = 8,
  RESERVED_IDENTITY_WORLD_IPV4 = 9,
  RESERVED_IDENTITY_WORLD_IPV6 = 10,
};

enum drop_reason {
  DROP_REASON_NONE = 0,
  DROP_REASON_INVALID_SOURCE_IP = 132,
  DROP_REASON_POLICY_DENIED = 133,
  DROP_REASON_INVALID_PACKET_DROPPED = 134,
  DROP_REASON_UNSUPPORTED_L3_PROTOCOL = 139,
  DROP_REASON_UNKNOWN_L4_PROTOCOL = 142,
  DROP_REASON_CT_MAP_INSERTION_FAILED = 155,
  DROP_REASON_INVALID_IPV6_EXTENSION_HEADER = 156,
  DROP_REASON_SERVICE_BACKEND_NOT_FOUND = 158,
  DROP_REASON_PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL = 180,
  DROP_REASON_POLICY_DENY = 181,
  DROP_REASON_NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION = 165,
  DROP_REASON_UNSUPPORTED_L2_PROTOCOL = 166,
  DROP_REASON_AUTH_REQUIRED = 189,
  DROP_REASON_DROP_EP_NOT_READY = 203,
  DROP_REASON_DROP_FRAG_NOT_FOUND = 207,
};

enum event_type {
  EVENT_TYPE_NONE = 0,
  EVENT_TYPE_OPEN = 1,
  EVENT_TYPE_PERIODIC = 2,
  EVENT_TYPE_CLOSE = 3,
  EVENT_TYPE_DROP = 4,
  EVENT_TYPE_AUDIT = 5,
  EVENT_TYPE_STUCK = 6,
  EVENT_TYPE_POLICY_RESET = 7,
  EVENT_TYPE_FAILED = 8,
};

enum hook {
  HOOK_NONE = 0,
  HOOK_CONNECT = 1,
  HOOK_SENDMSG = 2,
  HOOK_TC_FROM_POD = 3,
  HOOK_TC_TO_POD = 4,
  HOOK_SOCKOPS = 5,
  HOOK_SKMSG = 6,
  HOOK_TRACEPOINT = 7,
  HOOK_AGENT = 8,
};

enum accel_reason {
  ACCEL_REASON_UNKNOWN = 0,
  ACCEL_REASON_ACTIVE = 1,
  ACCEL_REASON_PROBATION = 2,
  ACCEL_REASON_OFF = 3,
  ACCEL_REASON_SELF_TEST = 4,
  ACCEL_REASON_OPT_OUT = 5,
  ACCEL_REASON_PEER_REMOTE = 6,
  ACCEL_REASON_BLOCKING = 7,
  ACCEL_REASON_SPLICE = 8,
  ACCEL_REASON_LOW_WATER = 9,
  ACCEL_REASON_URGENT = 10,
  ACCEL_REASON_MPTCP = 11,
  ACCEL_REASON_ULP = 12,
  ACCEL_REASON_PROGRAM = 13,
  ACCEL_REASON_DENIED = 14,
  ACCEL_REASON_MAP_FULL = 15,
  ACCEL_REASON_LOOPBACK = 16,
  ACCEL_REASON_ENROL_FAILED = 17,
  ACCEL_REASON_FOREIGN = 18,
  ACCEL_REASON_PEEK_OFF = 19,
  ACCEL_REASON_OPTIONS = 21,
  ACCEL_REASON_COUNTS = 22,
  ACCEL_REASON_IO_URING = 20,
  ACCEL_REASON_COMPAT = 23,
  ACCEL_REASON_ABANDONED = 26,
  ACCEL_REASON_USED_AGAIN = 25,
  ACCEL_REASON_QUEUE = 24,
};

enum mtls {
  MTLS_OFF = 0,
  MTLS_PERMISSIVE = 1,
  MTLS_STRICT = 2,
};

enum ipcache_flag {
  IPCACHE_FLAG_MESH = 1,
};

enum proxy_facts_flag {
  PROXY_FACTS_FLAG_MESH = 1,
};

enum edition_state {
  EDITION_STATE_NOW = 0,
  EDITION_STATE_BOTH = 1,
  EDITION_STATE_NEXT = 2,
};

enum endpoint_flag {
  ENDPOINT_FLAG_ENROLLED = 1,
  ENDPOINT_FLAG_ACCELERATE = 2,
  ENDPOINT_FLAG_HAS_CGROUP = 4,
  ENDPOINT_FLAG_HAS_AUDIT = 8,
  ENDPOINT_FLAG_DIRECT = 32,
  ENDPOINT_FLAG_SELF_TEST = 16,
  ENDPOINT_FLAG_NEXT_HAS_AUDIT = 64,
  ENDPOINT_FLAG_PROXIED = 256,
  ENDPOINT_FLAG_PASSING = 128,
  ENDPOINT_FLAG_UNSHAPED = 512,
};

enum conn_flag {
  CONN_FLAG_ENROLLED_0 = 1,
  CONN_FLAG_ENROLLED_1 = 2,
  CONN_FLAG_CLOSED_0 = 4,
  CONN_FLAG_CLOSED_1 = 8,
  CONN_FLAG_INITIATOR_1 = 16,
  CONN_FLAG_CANDIDATE = 32,
  CONN_FLAG_DENIED = 64,
  CONN_FLAG_AUDITED = 128,
  CONN_FLAG_USED = 256,
  CONN_FLAG_STUCK = 512,
  CONN_FLAG_DIRECT = 1024,
  CONN_FLAG_TO_PROXY = 2048,
  CONN_FLAG_FROM_PROXY = 4096,
};

enum ct_flag {
  CT_FLAG_SEEN_REPLY = 1,
  CT_FLAG_CLOSING = 2,
  CT_FLAG_AUDITED = 4,
  CT_FLAG_REPORTED = 8,
  CT_FLAG_TRACKED = 16,
  CT_FLAG_TO_PROXY = 32,
  CT_FLAG_FROM_PROXY = 64,
  CT_FLAG_FIN_SENT = 128,
  CT_FLAG_FIN_ANSWERED = 256,
};

enum closed {
  CLOSED_SOCKET = 1,
  CLOSED_POD = 2,
  CLOSED_CUT = 3,
};

enum metric {
  METRIC_EVENTS_LOST = 0,
  METRIC_REDIRECT_MESSAGES = 1,
  METRIC_REDIRECT_BYTES = 2,
  METRIC_TCP_MESSAGES = 3,
  METRIC_TCP_BYTES = 4,
  METRIC_PASS_NOT_DRAINED = 5,
  METRIC_PASS_QUEUE_FULL = 6,
  METRIC_PASS_MARKED = 7,
  METRIC_PASS_DENIED = 8,
  METRIC_CONNECTIONS_OPENED = 9,
  METRIC_CONNECTIONS_CLOSED = 10,
  METRIC_CONNS_MAP_FULL = 11,
  METRIC_CT_CREATED = 12,
  METRIC_CT_INSERT_FAILED = 13,
  METRIC_ENROLLED_SOCKETS = 14,
  METRIC_ENROL_FAILED = 15,
  METRIC_MARKED_READERS = 16,
  METRIC_STUCK_READERS = 17,
  METRIC_LB_TRANSLATED = 18,
  METRIC_LB_NO_BACKEND = 19,
  METRIC_FORWARDED_INGRESS_PACKETS = 20,
  METRIC_FORWARDED_INGRESS_BYTES = 21,
  METRIC_FORWARDED_EGRESS_PACKETS = 22,
  METRIC_FORWARDED_EGRESS_BYTES = 23,
  METRIC_AUDITED = 24,
  METRIC_POLICY_LOOKUPS = 25,
  METRIC_PASS_GONE = 26,
  METRIC_REDIRECT_FAILED = 27,
  METRIC_HELD_PACKETS = 29,
  METRIC_WITHDRAWN_SOCKETS = 30,
  METRIC_DIRECT_PACKETS = 31,
  METRIC_REFUSED_CALLS = 28,
  METRIC_FAILED_CALLS = 32,
  METRIC_PASS_SWITCHING = 33,
  METRIC_PROXY_PACKETS = 34,
  METRIC_PROXY_LOST = 35,
};

struct end {
  __u64 cookie;
  __u64 sock;
  __u64 redirect_bytes;
  __u64 redirect_msgs;
  __u64 tcp_msgs;
  __u64 pause;
  __u64 held;
  __u64 tcp_sent;
  __u64 tcp_received;
  __u32 endpoint;
  __u32 identity;
  __u32 packets;
  __u32 mean;
  __u32 judged;
  __u32 rule;
  __u32 left;
  __u32 moved;
  __u8 reason;
  __u8 marked;
  __u8 enrolled;
  __u8 closed;
  __u8 busy;
  __u8 asks;
  __u8 overruns;
  __u8 stuck;
};
_Static_assert(sizeof(struct end) == 112, "struct end");
_Static_assert(__builtin_offsetof(struct end, cookie) == 0, "struct end.cookie");
_Static_assert(__builtin_offsetof(struct end, sock) == 8, "struct end.sock");
_Static_assert(__builtin_offsetof(struct end, redirect_bytes) == 16, "struct end.redirect_bytes");
_Static_assert(__builtin_offsetof(struct end, redirect_msgs) == 24, "struct end.redirect_msgs");
_Static_assert(__builtin_offsetof(struct end, tcp_msgs) == 32, "struct end.tcp_msgs");
_Static_assert(__builtin_offsetof(struct end, pause) == 40, "struct end.pause");
_Static_assert(__builtin_offsetof(struct end, held) == 48, "struct end.held");
_Static_assert(__builtin_offsetof(struct end, tcp_sent) == 56, "struct end.tcp_sent");
_Static_assert(__builtin_offsetof(struct end, tcp_received) == 64, "struct end.tcp_received");
_Static_assert(__builtin_offsetof(struct end, endpoint) == 72, "struct end.endpoint");
_Static_assert(__builtin_offsetof(struct end, identity) == 76, "struct end.identity");
_Static_assert(__builtin_offsetof(struct end, packets) == 80, "struct end.packets");
_Static_assert(__builtin_offsetof(struct end, mean) == 84, "struct end.mean");
_Static_assert(__builtin_offsetof(struct end, judged) == 88, "struct end.judged");
_Static_assert(__builtin_offsetof(struct end, rule) == 92, "struct end.rule");
_Static_assert(__builtin_offsetof(struct end, left) == 96, "struct end.left");
_Static_assert(__builtin_offsetof(struct end, moved) == 100, "struct end.moved");
_Static_assert(__builtin_offsetof(struct end, reason) == 104, "struct end.reason");
_Static_assert(__builtin_offsetof(struct end, marked) == 105, "struct end.marked");
_Static_assert(__builtin_offsetof(struct end, enrolled) == 106, "struct end.enrolled");
_Static_assert(__builtin_offsetof(struct end, closed) == 107, "struct end.closed");
_Static_assert(__builtin_offsetof(struct end, busy) == 108, "struct end.busy");
_Static_assert(__builtin_offsetof(struct end, asks) == 109, "struct end.asks");
_Static_assert(__builtin_offsetof(struct end, overruns) == 110, "struct end.overruns");
_Static_assert(__builtin_offsetof(struct end, stuck) == 111, "struct end.stuck");

struct proxy_side {
  __u32 verdict;
  __u32 rule_id;
  __u32 set_id;
  __u32 peer;
  __u32 endpoint;
  __u32 identity;
};
_Static_assert(sizeof(struct proxy_side) == 24, "struct proxy_side");
_Static_assert(__builtin_offsetof(struct proxy_side, verdict) == 0, "struct proxy_side.verdict");
_Static_assert(__builtin_offsetof(struct proxy_side, rule_id) == 4, "struct proxy_side.rule_id");
_Static_assert(__builtin_offsetof(struct proxy_side, set_id) == 8, "struct proxy_side.set_id");
_Static_assert(__builtin_offsetof(struct proxy_side, peer) == 12, "struct proxy_side.peer");
_Static_assert(__builtin_offsetof(struct proxy_side, endpoint) == 16, "struct proxy_side.endpoint");
_Static_assert(__builtin_offsetof(struct proxy_side, identity) == 20, "struct proxy_side.identity");

struct proxy_facts {
  __u32 generation;
  __u32 source;
  __u32 target;
  __u32 flags;
  struct proxy_side side[2];
};
_Static_assert(sizeof(struct proxy_facts) == 64, "struct proxy_facts");
_Static_assert(__builtin_offsetof(struct proxy_facts, generation) == 0, "struct proxy_facts.generation");
_Static_assert(__builtin_offsetof(struct proxy_facts, source) == 4, "struct proxy_facts.source");
_Static_assert(__builtin_offsetof(struct proxy_facts, target) == 8, "struct proxy_facts.target");
_Static_assert(__builtin_offsetof(struct proxy_facts, flags) == 12, "struct proxy_facts.flags");
_Static_assert(__builtin_offsetof(struct proxy_facts, side) == 16, "struct proxy_facts.side");

struct config {
  __u32 generation;
  __u32 probation_packets;
  __u32 udp_timeout_s;
  __u32 tcp_timeout_s;
  __u32 tcp_close_timeout_s;
  __u32 icmp_timeout_s;
  __u8 acceleration;
  __u8 self_test;
  __u8 direct_delivery;
  __u8 mtls;
  __u32 proxy_ifindex;
  __u64 proxy_netns;
  __u32 proxy_nsid;
  __u32 pad1;
};
_Static_assert(sizeof(struct config) == 48, "struct config");
_Static_assert(__builtin_offsetof(struct config, generation) == 0, "struct config.generation");
_Static_assert(__builtin_offsetof(struct config, probation_packets) == 4, "struct config.probation_packets");
_Static_assert(__builtin_offsetof(struct config, udp_timeout_s) == 8, "struct config.udp_timeout_s");
_Static_assert(__builtin_offsetof(struct config, tcp_timeout_s) == 12, "struct config.tcp_timeout_s");
_Static_assert(__builtin_offsetof(struct config, tcp_close_timeout_s) == 16, "struct config.tcp_close_timeout_s");
_Static_assert(__builtin_offsetof(struct config, icmp_timeout_s) == 20, "struct config.icmp_timeout_s");
_Static_assert(__builtin_offsetof(struct config, acceleration) == 24, "struct config.acceleration");
_Static_assert(__builtin_offsetof(struct config, self_test) == 25, "struct config.self_test");
_Static_assert(__builtin_offsetof(struct config, direct_delivery) == 26, "struct config.direct_delivery");
_Static_assert(__builtin_offsetof(struct config, mtls) == 27, "struct config.mtls");
_Static_assert(__builtin_offsetof(struct config, proxy_ifindex) == 28, "struct config.proxy_ifindex");
_Static_assert(__builtin_offsetof(struct config, proxy_netns) == 32, "struct config.proxy_netns");
_Static_assert(__builtin_offsetof(struct config, proxy_nsid) == 40, "struct config.proxy_nsid");
_Static_assert(__builtin_offsetof(struct config, pad1) == 44, "struct config.pad1");

struct edition {
  __u32 state;
};
_Static_assert(sizeof(struct edition) == 4, "struct edition");
_Static_assert(__builtin_offsetof(struct edition, state) == 0, "struct edition.state");

struct endpoint_key {
  __u32 id;
};
_Static_assert(sizeof(struct endpoint_key) == 4, "struct endpoint_key");
_Static_assert(__builtin_offsetof(struct endpoint_key, id) == 0, "struct endpoint_key.id");

struct endpoint {
  __u32 id;
  __u32 identity;
  __u32 set_id;
  __u32 flags;
  __u32 ingress_plens;
  __u32 egress_plens;
  __u32 next_identity;
  __u32 next_set_id;
  __u32 next_ingress_plens;
  __u32 next_egress_plens;
  __u32 ifindex;
  __u32 nsid;
  __u64 netns_cookie;
  __u8 addr4[16];
  __u8 addr6[16];
  __u64 mac;
  __u32 inlet;
  __u32 pad;
};
_Static_assert(sizeof(struct endpoint) == 104, "struct endpoint");
_Static_assert(__builtin_offsetof(struct endpoint, id) == 0, "struct endpoint.id");
_Static_assert(__builtin_offsetof(struct endpoint, identity) == 4, "struct endpoint.identity");
_Static_assert(__builtin_offsetof(struct endpoint, set_id) == 8, "struct endpoint.set_id");
_Static_assert(__builtin_offsetof(struct endpoint, flags) == 12, "struct endpoint.flags");
_Static_assert(__builtin_offsetof(struct endpoint, ingress_plens) == 16, "struct endpoint.ingress_plens");
_Static_assert(__builtin_offsetof(struct endpoint, egress_plens) == 20, "struct endpoint.egress_plens");
_Static_assert(__builtin_offsetof(struct endpoint, next_identity) == 24, "struct endpoint.next_identity");
_Static_assert(__builtin_offsetof(struct endpoint, next_set_id) == 28, "struct endpoint.next_set_id");
_Static_assert(__builtin_offsetof(struct endpoint, next_ingress_plens) == 32, "struct endpoint.next_ingress_plens");
_Static_assert(__builtin_offsetof(struct endpoint, next_egress_plens) == 36, "struct endpoint.next_egress_plens");
_Static_assert(__builtin_offsetof(struct endpoint, ifindex) == 40, "struct endpoint.ifindex");
_Static_assert(__builtin_offsetof(struct endpoint, nsid) == 44, "struct endpoint.nsid");
_Static_assert(__builtin_offsetof(struct endpoint, netns_cookie) == 48, "struct endpoint.netns_cookie");
_Static_assert(__builtin_offsetof(struct endpoint, addr4) == 56, "struct endpoint.addr4");
_Static_assert(__builtin_offsetof(struct endpoint, addr6) == 72, "struct endpoint.addr6");
_Static_assert(__builtin_offsetof(struct endpoint, mac) == 88, "struct endpoint.mac");
_Static_assert(__builtin_offsetof(struct endpoint, inlet) == 96, "struct endpoint.inlet");
_Static_assert(__builtin_offsetof(struct endpoint, pad) == 100, "struct endpoint.pad");

struct addr_key {
  __u8 addr[16];
};
_Static_assert(sizeof(struct addr_key) == 16, "struct addr_key");
_Static_assert(__builtin_offsetof(struct addr_key, addr) == 0, "struct addr_key.addr");

struct endpoint_ref {
  __u32 id;
};
_Static_assert(sizeof(struct endpoint_ref) == 4, "struct endpoint_ref");
_Static_assert(__builtin_offsetof(struct endpoint_ref, id) == 0, "struct endpoint_ref.id");

struct netns_key {
  __u64 cookie;
};
_Static_assert(sizeof(struct netns_key) == 8, "struct netns_key");
_Static_assert(__builtin_offsetof(struct netns_key, cookie) == 0, "struct netns_key.cookie");

struct iface_key {
  __u32 ifindex;
};
_Static_assert(sizeof(struct iface_key) == 4, "struct iface_key");
_Static_assert(__builtin_offsetof(struct iface_key, ifindex) == 0, "struct iface_key.ifindex");

struct ipcache_key {
  __u32 prefixlen;
  __u8 addr[16];
};
_Static_assert(sizeof(struct ipcache_key) == 20, "struct ipcache_key");
_Static_assert(__builtin_offsetof(struct ipcache_key, prefixlen) == 0, "struct ipcache_key.prefixlen");
_Static_assert(__builtin_offsetof(struct ipcache_key, addr) == 4, "struct ipcache_key.addr");

struct ipcache_value {
  __u32 identity;
  __u32 next_identity;
  __u32 flags;
};
_Static_assert(sizeof(struct ipcache_value) == 12, "struct ipcache_value");
_Static_assert(__builtin_offsetof(struct ipcache_value, identity) == 0, "struct ipcache_value.identity");
_Static_assert(__builtin_offsetof(struct ipcache_value, next_identity) == 4, "struct ipcache_value.next_identity");
_Static_assert(__builtin_offsetof(struct ipcache_value, flags) == 8, "struct ipcache_value.flags");

struct policy_key {
  __u32 set_id;
  __u32 peer_id;
  __u16 port;
  __u8 proto;
  __u8 direction;
  __u8 plen;
  __u8 pad0;
  __u16 pad1;
};
_Static_assert(sizeof(struct policy_key) == 16, "struct policy_key");
_Static_assert(__builtin_offsetof(struct policy_key, set_id) == 0, "struct policy_key.set_id");
_Static_assert(__builtin_offsetof(struct policy_key, peer_id) == 4, "struct policy_key.peer_id");
_Static_assert(__builtin_offsetof(struct policy_key, port) == 8, "struct policy_key.port");
_Static_assert(__builtin_offsetof(struct policy_key, proto) == 10, "struct policy_key.proto");
_Static_assert(__builtin_offsetof(struct policy_key, direction) == 11, "struct policy_key.direction");
_Static_assert(__builtin_offsetof(struct policy_key, plen) == 12, "struct policy_key.plen");
_Static_assert(__builtin_offsetof(struct policy_key, pad0) == 13, "struct policy_key.pad0");
_Static_assert(__builtin_offsetof(struct policy_key, pad1) == 14, "struct policy_key.pad1");

struct policy_value {
  __u8 verdict;
  __u8 rank;
  __u8 audit_verdict;
  __u8 audit_rank;
  __u32 rule_id;
  __u32 audit_rule_id;
  __u8 present;
  __u8 audit_present;
  __u16 pad;
};
_Static_assert(sizeof(struct policy_value) == 16, "struct policy_value");
_Static_assert(__builtin_offsetof(struct policy_value, verdict) == 0, "struct policy_value.verdict");
_Static_assert(__builtin_offsetof(struct policy_value, rank) == 1, "struct policy_value.rank");
_Static_assert(__builtin_offsetof(struct policy_value, audit_verdict) == 2, "struct policy_value.audit_verdict");
_Static_assert(__builtin_offsetof(struct policy_value, audit_rank) == 3, "struct policy_value.audit_rank");
_Static_assert(__builtin_offsetof(struct policy_value, rule_id) == 4, "struct policy_value.rule_id");
_Static_assert(__builtin_offsetof(struct policy_value, audit_rule_id) == 8, "struct policy_value.audit_rule_id");
_Static_assert(__builtin_offsetof(struct policy_value, present) == 12, "struct policy_value.present");
_Static_assert(__builtin_offsetof(struct policy_value, audit_present) == 13, "struct policy_value.audit_present");
_Static_assert(__builtin_offsetof(struct policy_value, pad) == 14, "struct policy_value.pad");

struct ct_key {
  __u8 saddr[16];
  __u8 daddr[16];
  __u32 endpoint;
  __u16 sport;
  __u16 dport;
  __u8 proto;
  __u8 direction;
  __u16 pad;
};
_Static_assert(sizeof(struct ct_key) == 44, "struct ct_key");
_Static_assert(__builtin_offsetof(struct ct_key, saddr) == 0, "struct ct_key.saddr");
_Static_assert(__builtin_offsetof(struct ct_key, daddr) == 16, "struct ct_key.daddr");
_Static_assert(__builtin_offsetof(struct ct_key, endpoint) == 32, "struct ct_key.endpoint");
_Static_assert(__builtin_offsetof(struct ct_key, sport) == 36, "struct ct_key.sport");
_Static_assert(__builtin_offsetof(struct ct_key, dport) == 38, "struct ct_key.dport");
_Static_assert(__builtin_offsetof(struct ct_key, proto) == 40, "struct ct_key.proto");
_Static_assert(__builtin_offsetof(struct ct_key, direction) == 41, "struct ct_key.direction");
_Static_assert(__builtin_offsetof(struct ct_key, pad) == 42, "struct ct_key.pad");

struct ct_entry {
  __u64 created;
  __u64 last_seen;
  __u64 tx_packets;
  __u64 tx_bytes;
  __u64 rx_packets;
  __u64 rx_bytes;
  __u32 generation;
  __u32 rule_id;
  __u32 flags;
  __u32 identity;
  __u32 peer_identity;
  __u32 peer_endpoint;
};
_Static_assert(sizeof(struct ct_entry) == 72, "struct ct_entry");
_Static_assert(__builtin_offsetof(struct ct_entry, created) == 0, "struct ct_entry.created");
_Static_assert(__builtin_offsetof(struct ct_entry, last_seen) == 8, "struct ct_entry.last_seen");
_Static_assert(__builtin_offsetof(struct ct_entry, tx_packets) == 16, "struct ct_entry.tx_packets");
_Static_assert(__builtin_offsetof(struct ct_entry, tx_bytes) == 24, "struct ct_entry.tx_bytes");
_Static_assert(__builtin_offsetof(struct ct_entry, rx_packets) == 32, "struct ct_entry.rx_packets");
_Static_assert(__builtin_offsetof(struct ct_entry, rx_bytes) == 40, "struct ct_entry.rx_bytes");
_Static_assert(__builtin_offsetof(struct ct_entry, generation) == 48, "struct ct_entry.generation");
_Static_assert(__builtin_offsetof(struct ct_entry, rule_id) == 52, "struct ct_entry.rule_id");
_Static_assert(__builtin_offsetof(struct ct_entry, flags) == 56, "struct ct_entry.flags");
_Static_assert(__builtin_offsetof(struct ct_entry, identity) == 60, "struct ct_entry.identity");
_Static_assert(__builtin_offsetof(struct ct_entry, peer_identity) == 64, "struct ct_entry.peer_identity");
_Static_assert(__builtin_offsetof(struct ct_entry, peer_endpoint) == 68, "struct ct_entry.peer_endpoint");

struct conn_key {
  __u8 addr0[16];
  __u8 addr1[16];
  __u16 port0;
  __u16 port1;
};
_Static_assert(sizeof(struct conn_key) == 36, "struct conn_key");
_Static_assert(__builtin_offsetof(struct conn_key, addr0) == 0, "struct conn_key.addr0");
_Static_assert(__builtin_offsetof(struct conn_key, addr1) == 16, "struct conn_key.addr1");
_Static_assert(__builtin_offsetof(struct conn_key, port0) == 32, "struct conn_key.port0");
_Static_assert(__builtin_offsetof(struct conn_key, port1) == 34, "struct conn_key.port1");

struct conn {
  struct end end[2];
  __u64 opened;
  __u32 generation;
  __u16 flags;
  __u8 denied;
  __u8 pad;
};
_Static_assert(sizeof(struct conn) == 240, "struct conn");
_Static_assert(__builtin_offsetof(struct conn, end) == 0, "struct conn.end");
_Static_assert(__builtin_offsetof(struct conn, opened) == 224, "struct conn.opened");
_Static_assert(__builtin_offsetof(struct conn, generation) == 232, "struct conn.generation");
_Static_assert(__builtin_offsetof(struct conn, flags) == 236, "struct conn.flags");
_Static_assert(__builtin_offsetof(struct conn, denied) == 238, "struct conn.denied");
_Static_assert(__builtin_offsetof(struct conn, pad) == 239, "struct conn.pad");

struct cookie_key {
  __u64 cookie;
};
_Static_assert(sizeof(struct cookie_key) == 8, "struct cookie_key");
_Static_assert(__builtin_offsetof(struct cookie_key, cookie) == 0, "struct cookie_key.cookie");

struct service_key {
  __u8 addr[16];
  __u16 port;
  __u8 proto;
  __u8 pad;
};
_Static_assert(sizeof(struct service_key) == 20, "struct service_key");
_Static_assert(__builtin_offsetof(struct service_key, addr) == 0, "struct service_key.addr");
_Static_assert(__builtin_offsetof(struct service_key, port) == 16, "struct service_key.port");
_Static_assert(__builtin_offsetof(struct service_key, proto) == 18, "struct service_key.proto");
_Static_assert(__builtin_offsetof(struct service_key, pad) == 19, "struct service_key.pad");

struct service {
  __u32 id;
  __u32 backends;
  __u32 next;
  __u32 pad;
};
_Static_assert(sizeof(struct service) == 16, "struct service");
_Static_assert(__builtin_offsetof(struct service, id) == 0, "struct service.id");
_Static_assert(__builtin_offsetof(struct service, backends) == 4, "struct service.backends");
_Static_assert(__builtin_offsetof(struct service, next) == 8, "struct service.next");
_Static_assert(__builtin_offsetof(struct service, pad) == 12, "struct service.pad");

struct backend_key {
  __u32 service;
  __u32 index;
};
_Static_assert(sizeof(struct backend_key) == 8, "struct backend_key");
_Static_assert(__builtin_offsetof(struct backend_key, service) == 0, "struct backend_key.service");
_Static_assert(__builtin_offsetof(struct backend_key, index) == 4, "struct backend_key.index");

struct backend {
  __u8 addr[16];
  __u16 port;
  __u16 pad0;
  __u32 pad1;
};
_Static_assert(sizeof(struct backend) == 24, "struct backend");
_Static_assert(__builtin_offsetof(struct backend, addr) == 0, "struct backend.addr");
_Static_assert(__builtin_offsetof(struct backend, port) == 16, "struct backend.port");
_Static_assert(__builtin_offsetof(struct backend, pad0) == 18, "struct backend.pad0");
_Static_assert(__builtin_offsetof(struct backend, pad1) == 20, "struct backend.pad1");

struct reverse_key {
  __u64 cookie;
  __u8 addr[16];
  __u16 port;
  __u8 proto;
  __u8 pad0;
  __u32 pad1;
};
_Static_assert(sizeof(struct reverse_key) == 32, "struct reverse_key");
_Static_assert(__builtin_offsetof(struct reverse_key, cookie) == 0, "struct reverse_key.cookie");
_Static_assert(__builtin_offsetof(struct reverse_key, addr) == 8, "struct reverse_key.addr");
_Static_assert(__builtin_offsetof(struct reverse_key, port) == 24, "struct reverse_key.port");
_Static_assert(__builtin_offsetof(struct reverse_key, proto) == 26, "struct reverse_key.proto");
_Static_assert(__builtin_offsetof(struct reverse_key, pad0) == 27, "struct reverse_key.pad0");
_Static_assert(__builtin_offsetof(struct reverse_key, pad1) == 28, "struct reverse_key.pad1");

struct reverse_value {
  __u8 addr[16];
  __u16 port;
  __u16 pad0;
  __u32 pad1;
};
_Static_assert(sizeof(struct reverse_value) == 24, "struct reverse_value");
_Static_assert(__builtin_offsetof(struct reverse_value, addr) == 0, "struct reverse_value.addr");
_Static_assert(__builtin_offsetof(struct reverse_value, port) == 16, "struct reverse_value.port");
_Static_assert(__builtin_offsetof(struct reverse_value, pad0) == 18, "struct reverse_value.pad0");
_Static_assert(__builtin_offsetof(struct reverse_value, pad1) == 20, "struct reverse_value.pad1");

struct frag_key {
  __u8 saddr[16];
  __u8 daddr[16];
  __u32 id;
  __u32 proto;
};
_Static_assert(sizeof(struct frag_key) == 40, "struct frag_key");
_Static_assert(__builtin_offsetof(struct frag_key, saddr) == 0, "struct frag_key.saddr");
_Static_assert(__builtin_offsetof(struct frag_key, daddr) == 16, "struct frag_key.daddr");
_Static_assert(__builtin_offsetof(struct frag_key, id) == 32, "struct frag_key.id");
_Static_assert(__builtin_offsetof(struct frag_key, proto) == 36, "struct frag_key.proto");

struct frag_value {
  __u16 sport;
  __u16 dport;
  __u8 icmp_type;
  __u8 pad;
};
_Static_assert(sizeof(struct frag_value) == 6, "struct frag_value");
_Static_assert(__builtin_offsetof(struct frag_value, sport) == 0, "struct frag_value.sport");
_Static_assert(__builtin_offsetof(struct frag_value, dport) == 2, "struct frag_value.dport");
_Static_assert(__builtin_offsetof(struct frag_value, icmp_type) == 4, "struct frag_value.icmp_type");
_Static_assert(__builtin_offsetof(struct frag_value, pad) == 5, "struct frag_value.pad");

struct caught {
  __u32 reason;
  __u32 count;
};
_Static_assert(sizeof(struct caught) == 8, "struct caught");
_Static_assert(__builtin_offsetof(struct caught, reason) == 0, "struct caught.reason");
_Static_assert(__builtin_offsetof(struct caught, count) == 4, "struct caught.count");

struct road_key {
  __u8 addr[16];
  __u32 endpoint;
};
_Static_assert(sizeof(struct road_key) == 20, "struct road_key");
_Static_assert(__builtin_offsetof(struct road_key, addr) == 0, "struct road_key.addr");
_Static_assert(__builtin_offsetof(struct road_key, endpoint) == 16, "struct road_key.endpoint");

struct road {
  __u64 pod;
  __u64 far;
};
_Static_assert(sizeof(struct road) == 16, "struct road");
_Static_assert(__builtin_offsetof(struct road, pod) == 0, "struct road.pod");
_Static_assert(__builtin_offsetof(struct road, far) == 8, "struct road.far");

struct counter {
  __u64 value;
};
_Static_assert(sizeof(struct counter) == 8, "struct counter");
_Static_assert(__builtin_offsetof(struct counter, value) == 0, "struct counter.value");

struct traffic_key {
  __u16 reason;
  __u8 direction;
  __u8 pad;
};
_Static_assert(sizeof(struct traffic_key) == 4, "struct traffic_key");
_Static_assert(__builtin_offsetof(struct traffic_key, reason) == 0, "struct traffic_key.reason");
_Static_assert(__builtin_offsetof(struct traffic_key, direction) == 2, "struct traffic_key.direction");
_Static_assert(__builtin_offsetof(struct traffic_key, pad) == 3, "struct traffic_key.pad");

struct traffic_value {
  __u64 packets;
  __u64 bytes;
};
_Static_assert(sizeof(struct traffic_value) == 16, "struct traffic_value");
_Static_assert(__builtin_offsetof(struct traffic_value, packets) == 0, "struct traffic_value.packets");
_Static_assert(__builtin_offsetof(struct traffic_value, bytes) == 8, "struct traffic_value.bytes");

struct flow_event {
  __u64 time;
  __u64 cookie;
  __u8 saddr[16];
  __u8 daddr[16];
  __u16 sport;
  __u16 dport;
  __u8 proto;
  __u8 type;
  __u8 hook;
  __u8 direction;
  __u32 src_identity;
  __u32 dst_identity;
  __u32 src_endpoint;
  __u32 dst_endpoint;
  __u32 egress_rule;
  __u32 ingress_rule;
  __u8 verdict;
  __u8 reason;
  __u8 tcp_flags;
  __u8 accel;
  __u8 accel_reason[2];
  __u8 icmp_type;
  __u8 icmp_code;
  __u32 ifindex;
  __u32 pad;
  __u64 tx_bytes;
  __u64 rx_bytes;
  __u64 tx_redirected;
  __u64 rx_redirected;
  __u64 duration;
  __u32 flags;
  __u32 is_reply;
};
_Static_assert(sizeof(struct flow_event) == 144, "struct flow_event");
_Static_assert(__builtin_offsetof(struct flow_event, time) == 0, "struct flow_event.time");
_Static_assert(__builtin_offsetof(struct flow_event, cookie) == 8, "struct flow_event.cookie");
_Static_assert(__builtin_offsetof(struct flow_event, saddr) == 16, "struct flow_event.saddr");
_Static_assert(__builtin_offsetof(struct flow_event, daddr) == 32, "struct flow_event.daddr");
_Static_assert(__builtin_offsetof(struct flow_event, sport) == 48, "struct flow_event.sport");
_Static_assert(__builtin_offsetof(struct flow_event, dport) == 50, "struct flow_event.dport");
_Static_assert(__builtin_offsetof(struct flow_event, proto) == 52, "struct flow_event.proto");
_Static_assert(__builtin_offsetof(struct flow_event, type) == 53, "struct flow_event.type");
_Static_assert(__builtin_offsetof(struct flow_event, hook) == 54, "struct flow_event.hook");
_Static_assert(__builtin_offsetof(struct flow_event, direction) == 55, "struct flow_event.direction");
_Static_assert(__builtin_offsetof(struct flow_event, src_identity) == 56, "struct flow_event.src_identity");
_Static_assert(__builtin_offsetof(struct flow_event, dst_identity) == 60, "struct flow_event.dst_identity");
_Static_assert(__builtin_offsetof(struct flow_event, src_endpoint) == 64, "struct flow_event.src_endpoint");
_Static_assert(__builtin_offsetof(struct flow_event, dst_endpoint) == 68, "struct flow_event.dst_endpoint");
_Static_assert(__builtin_offsetof(struct flow_event, egress_rule) == 72, "struct flow_event.egress_rule");
_Static_assert(__builtin_offsetof(struct flow_event, ingress_rule) == 76, "struct flow_event.ingress_rule");
_Static_assert(__builtin_offsetof(struct flow_event, verdict) == 80, "struct flow_event.verdict");
_Static_assert(__builtin_offsetof(struct flow_event, reason) == 81, "struct flow_event.reason");
_Static_assert(__builtin_offsetof(struct flow_event, tcp_flags) == 82, "struct flow_event.tcp_flags");
_Static_assert(__builtin_offsetof(struct flow_event, accel) == 83, "struct flow_event.accel");
_Static_assert(__builtin_offsetof(struct flow_event, accel_reason) == 84, "struct flow_event.accel_reason");
_Static_assert(__builtin_offsetof(struct flow_event, icmp_type) == 86, "struct flow_event.icmp_type");
_Static_assert(__builtin_offsetof(struct flow_event, icmp_code) == 87, "struct flow_event.icmp_code");
_Static_assert(__builtin_offsetof(struct flow_event, ifindex) == 88, "struct flow_event.ifindex");
_Static_assert(__builtin_offsetof(struct flow_event, pad) == 92, "struct flow_event.pad");
_Static_assert(__builtin_offsetof(struct flow_event, tx_bytes) == 96, "struct flow_event.tx_bytes");
_Static_assert(__builtin_offsetof(struct flow_event, rx_bytes) == 104, "struct flow_event.rx_bytes");
_Static_assert(__builtin_offsetof(struct flow_event, tx_redirected) == 112, "struct flow_event.tx_redirected");
_Static_assert(__builtin_offsetof(struct flow_event, rx_redirected) == 120, "struct flow_event.rx_redirected");
_Static_assert(__builtin_offsetof(struct flow_event, duration) == 128, "struct flow_event.duration");
_Static_assert(__builtin_offsetof(struct flow_event, flags) == 136, "struct flow_event.flags");
_Static_assert(__builtin_offsetof(struct flow_event, is_reply) == 140, "struct flow_event.is_reply");

#define MAX_CONFIG 1
#define MAX_EDITION 1
#define MAX_ENDPOINTS 4096
#define MAX_ENDPOINT_IPS 16384
#define MAX_ENDPOINT_NETNS 4096
#define MAX_ENDPOINT_IFACES 4096
#define MAX_IPCACHE 262144
#define MAX_POLICY 65536
#define MAX_CT 131072
#define MAX_CONNS 65536
#define MAX_SOCKS 131072
#define MAX_SERVICES 16384
#define MAX_BACKENDS 65536
#define MAX_REVERSE 65536
#define MAX_FRAGS 8192
#define MAX_CAUGHT 4096
#define MAX_ROADS 65536
#define MAX_DOORS 128
#define MAX_COUNTERS 64
#define MAX_TRAFFIC 1024
#define MAX_EVENTS 4194304
#define FIRST_CIDR_IDENTITY 16777216
