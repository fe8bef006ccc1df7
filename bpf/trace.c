/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
 *
 * Marks sockets whose programs make a call that cannot see redirected bytes, before that call reads anything. Only rare
 * system calls are watched. A mark bars redirecting to that socket for good; if redirected bytes already wait in it, the
 * call would wait for ever, so the agent is woken to reset the connection, and the endpoint's next connections stay off
 * the short cut from the start.
 */
#include "ends.h"
#include "kernel.h"

/* syscalls:sys_enter_*: 8 bytes of common fields, the call's number, then its arguments (tracefs, `format`). */
struct sys_enter {
  u64 common;
  long number;
  u64 args[6];
};

/* The kernel takes descriptors, commands, levels and flags for 32 bits, whatever the upper half of the register holds. */
static __always_inline u32 word(const struct sys_enter *s, int argument) {
  return s->args[argument];
}

static __always_inline u64 fd_to_sock(u32 fd) {
  u64 files = peek64(bpf_get_current_task(), OFF_TASK_FILES);
  u64 fdt = files ? peek64(files, OFF_FILES_FDT) : 0;
  if (!fdt || fd >= peek32(fdt, OFF_FDT_MAX))
    return 0;
  u64 file = peek64(peek64(fdt, OFF_FDT_FD) + 8ull * fd, 0);
  u64 sock = file ? peek64(file, OFF_FILE_PRIVATE) : 0;
  /* Not every file is a socket: a socket's own `file` points back. */
  return sock && peek64(sock, OFF_SOCKET_FILE) == file ? peek64(sock, OFF_SOCKET_SK) : 0;
}

static __always_inline struct conn *sock_to_conn(u64 sk, struct conn_key *k, int *side) {
  u8 local[16] ALIGNED, remote[16] ALIGNED;
  u16 family = peek16(sk, OFF_SKC_FAMILY);
  if (family == AF_INET) {
    addr_v4(local, peek32(sk, OFF_SKC_RCV_SADDR));
    addr_v4(remote, peek32(sk, OFF_SKC_DADDR));
  } else if (family == AF_INET6) {
    bpf_probe_read_kernel(local, 16, (void *)(sk + OFF_SKC_V6_RCV_SADDR));
    bpf_probe_read_kernel(remote, 16, (void *)(sk + OFF_SKC_V6_DADDR));
  } else {
    return 0;
  }
  *side = conn_side(k, local, remote, peek16(sk, OFF_SKC_NUM), bpf_ntohs(peek16(sk, OFF_SKC_DPORT)));
  struct conn *c = conns.lookup(k);
  return c && END_OF(c, *side)->sock == sk ? c : 0;
}

/* Keep an endpoint's next connections off the short cut from the start; COUNTS: or have them ready for a question, where
 * the kernel can answer it. PROGRAM says more than SPLICE: that a connection was lost by it. */
static __always_inline void remember(u32 endpoint, u8 reason) {
  struct endpoint_key k = {.id = endpoint};
  struct caught v = {.reason = reason};
  struct caught *old = caught.lookup(&k);
  if (!endpoint)
    return;
  if (!old) { /* COUNTS must not take the place of what another core puts there now */
    caught.insert(&k, &v);
    old = caught.lookup(&k);
  }
  if (!old)
    return;
  if (old->reason == ACCEL_REASON_COUNTS || (old->reason == ACCEL_REASON_SPLICE && reason == ACCEL_REASON_PROGRAM))
    old->reason = reason;
  __sync_fetch_and_add(&old->count, 1);
}

/* A program waits, or is about to wait, for bytes that its call cannot see: have the agent reset the connection. */
static __always_inline void stuck(struct conn *c, const struct conn_key *at, int side, u8 reason) {
  struct conn_key k = *at;
  struct end *reader = END_OF(c, side);
  if (c->end[0].stuck | c->end[1].stuck)
    return;
  reader->stuck = 1;
  if (reason != ACCEL_REASON_COUNTS) /* that one was remembered with its first question */
    remember(reader->endpoint, reason == ACCEL_REASON_SPLICE ? ACCEL_REASON_PROGRAM : reason);
  count(METRIC_STUCK_READERS, reader->endpoint);
  struct flow_event *e = event_new(EVENT_TYPE_STUCK, HOOK_TRACEPOINT);
  if (e) {
    event_conn(e, c, &k);
    e->direction = side == initiator(c) ? DIRECTION_EGRESS : DIRECTION_INGRESS; /* EGRESS: the source is the reader */
    e->reason = reason;
    e->cookie = reader->cookie;
    events.ringbuf_submit(e, EVENT_URGENT);
  }
}

/* `target` 0: bar redirecting to the caller's socket (it reads so); 1: to its peer (it sends so). */
static __always_inline int mark(u32 fd, u8 reason, int target, int reads) {
  struct conn_key k ALIGNED = {};
  int side = 0;
  u64 sk = fd_to_sock(fd);
  if (!sk)
    return 0;
  struct conn *c = sock_to_conn(sk, &k, &side);
  if (!c)
    return 0;
  /* A program that has spliced, or asked FIONREAD, once will do so again: its pod's next connections need no luck. */
  if (reason == ACCEL_REASON_SPLICE || reason == ACCEL_REASON_COUNTS)
    remember(END_OF(c, side)->endpoint, reason);
  struct end *barred = END_OF(c, target ? !side : side);
  if (!barred->marked) {
    barred->marked = barred->reason = reason;
    count(METRIC_MARKED_READERS, barred->endpoint);
  }
  if (!reads || !psock_has_data(sk))
    return 0;
  stuck(c, &k, side, reason);
  return 0;
}

#define MSG_OOB_FLAG 1

int enter_splice(struct sys_enter *s) {
  return mark(word(s, 0), ACCEL_REASON_SPLICE, 0, 1);
}

/* Into a pipe it is a splice (kernel 5.12). */
int enter_sendfile64(struct sys_enter *s) {
  return mark(word(s, 1), ACCEL_REASON_SPLICE, 0, 1);
}

/* MSG_TRUNC on a TCP socket throws bytes away unread (tcp(7)); the psock's reader does not know it. */
#define MSG_TRUNC_FLAG 0x20

int enter_recvfrom(struct sys_enter *s) {
  return word(s, 3) & (MSG_TRUNC_FLAG | MSG_OOB_FLAG) ? mark(word(s, 0), ACCEL_REASON_OPTIONS, 0, 1) : 0;
}

int enter_recvmsg(struct sys_enter *s) {
  return word(s, 2) & (MSG_TRUNC_FLAG | MSG_OOB_FLAG) ? mark(word(s, 0), ACCEL_REASON_OPTIONS, 0, 1) : 0;
}

/* What a ring is asked to do passes no system call that is watched here, and splice is among it: the program's sockets
 * stay on TCP from now on. */
int enter_io_uring_setup(struct sys_enter *s) {
  remember(current_endpoint(), ACCEL_REASON_IO_URING);
  return 0;
}

/* The tracepoints of system calls do not see those of 32-bit programs, so their pod stays on TCP from their start on. */
int exec(void *unused) {
  u64 mm = peek64(bpf_get_current_task(), OFF_TASK_MM);
  if (mm && peek64(mm, OFF_MM_TASK_SIZE) <= 0xffffffffull)
    remember(current_endpoint(), ACCEL_REASON_COMPAT);
  return 0;
}

int enter_recvmmsg(struct sys_enter *s) {
  return word(s, 3) & (MSG_TRUNC_FLAG | MSG_OOB_FLAG) ? mark(word(s, 0), ACCEL_REASON_OPTIONS, 0, 1) : 0;
}

int enter_sendto(struct sys_enter *s) {
  return word(s, 3) & MSG_OOB_FLAG ? mark(word(s, 0), ACCEL_REASON_URGENT, 1, 0) : 0;
}

int enter_sendmsg(struct sys_enter *s) {
  return word(s, 2) & MSG_OOB_FLAG ? mark(word(s, 0), ACCEL_REASON_URGENT, 1, 0) : 0;
}

int enter_sendmmsg(struct sys_enter *s) {
  return word(s, 3) & MSG_OOB_FLAG ? mark(word(s, 0), ACCEL_REASON_URGENT, 1, 0) : 0;
}

/* TCP_ZEROCOPY_RECEIVE (35) maps pages of the TCP queue only. */
int enter_getsockopt(struct sys_enter *s) {
  return word(s, 1) == IPPROTO_TCP && word(s, 2) == 35 ? mark(word(s, 0), ACCEL_REASON_SPLICE, 0, 1) : 0;
}

int enter_setsockopt(struct sys_enter *s) {
  u32 level = word(s, 1), name = word(s, 2);
  if (level == 1 && name == 18 /* SO_RCVLOWAT */)
    return mark(word(s, 0), ACCEL_REASON_LOW_WATER, 0, 0);
  if (level == 1 && name == 42 /* SO_PEEK_OFF */)
    return mark(word(s, 0), ACCEL_REASON_PEEK_OFF, 0, 0);
  /* SO_ZEROCOPY, SO_TIMESTAMP*, SO_TIMESTAMPNS*, SO_TIMESTAMPING*, SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_MAX_PACING_RATE,
   * TCP_INQ */
  if ((level == 1 && (name == 60 || name == 29 || name == 35 || name == 37 || (name >= 63 && name <= 65) ||
                      name == 26 || name == 50 || name == 47)) ||
      (level == IPPROTO_TCP && name == 36))
    return mark(word(s, 0), ACCEL_REASON_OPTIONS, 0, 0);
  if (level == IPPROTO_TCP && name == 31 /* TCP_ULP */) {
    mark(word(s, 0), ACCEL_REASON_ULP, 0, 0);
    return mark(word(s, 0), ACCEL_REASON_ULP, 1, 0);
  }
  return 0;
}

/* A socket put back into blocking mode. Its program set it non-blocking before, or it would not be enrolled. */
int enter_fcntl(struct sys_enter *s) {
  return word(s, 1) == 4 /* F_SETFL */ && !(word(s, 2) & 04000) ? mark(word(s, 0), ACCEL_REASON_BLOCKING, 0, 0) : 0;
}

/* Whether TCP's own queue has bytes to read; a FIN counts as one more in the sequence numbers. */
static __always_inline int bytes_of_tcp(u64 sk) {
  u32 unread = peek32(sk, OFF_TP_RCVNXT) - peek32(sk, OFF_TP_COPIED);
  return unread > (peek64(sk, OFF_SK_FLAGS) >> SOCK_DONE_BIT & 1);
}

#define FIONREAD 0x541B
#define FIONBIO 0x5421

/* Programs that ask do so after each read: the cookies of connections that are known to be asked about. */
#define ASKED_SLOTS 1024
BPF_ARRAY(asked, u64, ASKED_SLOTS);

/* A socket in the sockhash answers FIONREAD with one of its two queues. On a kernel where that is the redirected bytes,
 * the packet hook sees to it that no byte of TCP waits in the socket of a program that asks (bpf/enrol.h), from the
 * first question on. Where it is TCP's bytes (kernels before 2026), such a program stays off the short cut. */
static __always_inline int asks(u32 fd) {
  u64 sk = fd_to_sock(fd), cookie = sk ? peek64(sk, OFF_SKC_COOKIE) : 0;
  if (!cookie)
    return 0; /* no socket, or none that sock_ops has met */
#ifdef PSOCK_NOT_IN_FIONREAD
  return mark(fd, ACCEL_REASON_COUNTS, 0, 1);
#else
  u32 slot = cookie & (ASKED_SLOTS - 1);
  u64 *known = asked.lookup(&slot);
  if (!known || (*known == cookie && !(peek64(sk, OFF_SK_USER_DATA) && bytes_of_tcp(sk))))
    return 0;
  struct conn_key k ALIGNED = {};
  int side = 0;
  struct conn *c = sock_to_conn(sk, &k, &side);
  if (!c)
    return 0;
  *known = cookie;
  struct end *reader = END_OF(c, side);
  if (!reader->asks)
    remember(reader->endpoint, ACCEL_REASON_COUNTS);
  reader->asks = 1;
  if (reader->enrolled && !psock_has_data(sk) && bytes_of_tcp(sk))
    stuck(c, &k, side, ACCEL_REASON_COUNTS); /* this one answer will be wrong, and a program may wait on it for ever */
  return 0;
#endif
}

int enter_ioctl(struct sys_enter *s) {
  u32 on = 1;
  if (word(s, 1) == FIONREAD)
    return asks(word(s, 0));
  if (word(s, 1) != FIONBIO)
    return 0;
  bpf_probe_read_user(&on, sizeof(on), (void *)s->args[2]);
  return on ? 0 : mark(word(s, 0), ACCEL_REASON_BLOCKING, 0, 0);
}
