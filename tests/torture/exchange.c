/* One side of one connection: sends and reads what its plan says, in threads or in an event loop, and judges the end. */
#define _GNU_SOURCE
#include "exchange.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STALL_MS 5000

static void set(int fd, int level, int name, int value) { setsockopt(fd, level, name, &value, sizeof value); }

void open_transfer(struct conn *conn, const struct plan *plan, int me, int fd) {
  memset(conn, 0, sizeof *conn);
  conn->plan = *plan;
  conn->me = me, conn->fd = fd, conn->late = plan->mode == LATE, conn->short_at = -1, conn->lowat_now = 1;
  conn->side = &conn->plan.side[me], conn->peer = &conn->plan.side[!me];
  conn->key_out = direction_key(plan, me), conn->key_in = direction_key(plan, !me);
  conn->tx_rng.state = conn->key_out ^ 0x77, conn->rx_rng.state = conn->key_out ^ 0x99;
  conn->slow_left = conn->side->slow_reads;
  conn->doing_tx = conn->doing_rx = "starting";
  pthread_mutex_init(&conn->lock, NULL);
  pthread_cond_init(&conn->changed, NULL);
  struct side *side = conn->side;
  conn->in_size = (size_t)(side->rx_chunk > 65536 ? side->rx_chunk : 65536);
  conn->in = malloc(conn->in_size);
  if (side->tx == TX_SENDFILE) {
    conn->memfd = memfd_create("stream", MFD_CLOEXEC);
    if (ftruncate(conn->memfd, side->total + 1)) report(conn, "error", "memfd: %s", strerror(errno));
    conn->out = mmap(NULL, (size_t)side->total + 1, PROT_READ | PROT_WRITE, MAP_SHARED, conn->memfd, 0);
  } else {
    conn->out = mmap(NULL, (size_t)side->total + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  fill(conn->out, conn->key_out, 0, side->total);
  if ((side->tx == TX_SPLICE || side->tx == TX_VMSPLICE) && pipe(conn->tx_pipe)) report(conn, "error", "pipe");
  if ((side->rx == RX_SPLICE || side->rx == RX_LATE) && pipe(conn->rx_pipe)) report(conn, "error", "pipe");
  if (side->tx == TX_URING && io_uring_queue_init(4, &conn->tx_ring, 0)) report(conn, "error", "no io_uring");
  if (side->rx == RX_URING && io_uring_queue_init(4, &conn->rx_ring, 0)) report(conn, "error", "no io_uring");
  int flags = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, side->engine == BLOCKING ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
  if (side->sndbuf) set(fd, SOL_SOCKET, SO_SNDBUF, side->sndbuf);
  if (side->rcvbuf) set(fd, SOL_SOCKET, SO_RCVBUF, side->rcvbuf);
  if (side->nodelay) set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  if (side->tx == TX_ZEROCOPY) set(fd, SOL_SOCKET, SO_ZEROCOPY, 1);
}

void report(struct conn *conn, const char *result, const char *format, ...) {
  char detail[600], line[1100];
  va_list args;
  va_start(args, format);
  vsnprintf(detail, sizeof detail, format, args);
  va_end(args);
  int queued = -1, unsent = -1;
  struct tcp_info info = {0};
  socklen_t size = sizeof info;
  if (strcmp(result, "ok")) {
    ioctl(conn->fd, FIONREAD, &queued);
    ioctl(conn->fd, TIOCOUTQ, &unsent);
    getsockopt(conn->fd, IPPROTO_TCP, TCP_INFO, &info, &size);
  }
  int n = snprintf(line, sizeof line,
                   "{\"id\": %lu, \"side\": \"%s\", \"result\": \"%s\", \"sent\": %ld, \"received\": %ld, \"detail\": "
                   "\"%s\", \"tx\": \"%s\", \"rx\": \"%s\", \"readable\": %d, \"unacked\": %d, \"tcp_state\": %d}\n",
                   conn->plan.id, conn->me == CLIENT ? "client" : "server", result, (long)conn->sent,
                   (long)conn->received, detail, conn->doing_tx, conn->doing_rx, queued, unsent, info.tcpi_state);
  if (write(1, line, (size_t)n) != n) _exit(3); /* one write of less than PIPE_BUF: lines never mix */
  _exit(strcmp(result, "ok") ? 2 : 0);
}

/* An error of the socket: part of the plan, the mesh resetting a late splicer, or wrong. Returns if it is part of it. */
static void socket_error(struct conn *conn, const char *what, int error) {
  int gone = error == ECONNRESET || error == EPIPE;
  if (gone && resets(&conn->plan, conn->me) == 2 && (aborts(&conn->plan) || conn->received == conn->side->wanted)) return;
  gone |= error == ECONNABORTED; /* what the mesh's own reset looks like */
  report(conn, gone && conn->late ? "reset" : "wrong", "%s: unexpected %s at sent %ld of %ld, received %ld of %ld", what,
         strerror(error), (long)conn->sent, conn->side->total, (long)conn->received, conn->side->wanted);
}

/* Take one result of step_tx. Returns whether to try again at once. */
static int sent(struct conn *conn, long n) {
  if (n == -EAGAIN) return 0;
  if (n == -EINTR) return 1;
  if (n < 0) {
    socket_error(conn, "send", (int)-n);
    conn->tx_error = (int)-n;
  }
  return 1;
}

/* Take one result of step_rx. Returns 1: go on; 0: nothing there; -1: reading is over. */
static int received(struct conn *conn, long n) {
  int reset = resets(&conn->plan, conn->me) == 2;
  if (n == -EAGAIN) return 0;
  if (n > 0 || n == -EINTR) return 1;
  if (n < 0) socket_error(conn, "read", (int)-n);
  else if (reset) conn->ended_plainly = 1;
  else if (conn->received != conn->side->wanted)
    report(conn, "wrong", "end of stream at %ld of %ld", (long)conn->received, conn->side->wanted);
  return -1;
}

/* Reading is over without asking for the end: this side is the one that closes or resets. */
static int read_enough(const struct conn *conn) {
  int last = closes(&conn->plan, conn->me) || resets(&conn->plan, conn->me) == 1;
  int urgent_left = conn->peer->urgent == conn->received && !conn->urgent_read;
  return last && conn->received == conn->side->wanted && !urgent_left;
}

static void shut(struct conn *conn) {
  if (shuts(&conn->plan, conn->me)) shutdown(conn->fd, SHUT_WR);
}

static void wait_for(struct conn *conn, short events) {
  struct pollfd p = {.fd = conn->fd, .events = events};
  poll(&p, 1, -1);
  if (conn->side->tx == TX_ZEROCOPY && (p.revents & POLLERR)) reap_zerocopy(conn);
}

static void *send_all(void *argument) {
  struct conn *conn = argument;
  while (!all_sent(conn)) {
    conn->doing_tx = "waiting for its turn";
    pthread_mutex_lock(&conn->lock);
    while (!can_send(conn) && !conn->over) pthread_cond_wait(&conn->changed, &conn->lock);
    pthread_mutex_unlock(&conn->lock);
    if (conn->over && !can_send(conn)) return NULL; /* the peer is gone before our turn came */
    conn->doing_tx = "polling for space";
    if (!sent(conn, step_tx(conn))) wait_for(conn, POLLOUT);
  }
  shut(conn);
  conn->doing_tx = "done";
  return NULL;
}

static void *read_all(void *argument) {
  struct conn *conn = argument;
  int more = 1;
  while (more >= 0) {
    read_urgent(conn);
    if (read_enough(conn)) break;
    more = received(conn, step_rx(conn));
    conn->doing_rx = "polling for data";
    if (more == 0) wait_for(conn, POLLIN);
  }
  conn->doing_rx = "done";
  pthread_mutex_lock(&conn->lock);
  conn->over = 1;
  pthread_cond_broadcast(&conn->changed);
  pthread_mutex_unlock(&conn->lock);
  return NULL;
}

static void *both_in_threads(void *argument) {
  struct conn *conn = argument;
  pthread_t sender;
  pthread_create(&sender, NULL, send_all, conn);
  read_all(conn);
  pthread_join(sender, NULL);
  return NULL;
}

static void *both_in_a_loop(void *argument) {
  struct conn *conn = argument;
  int ep = -1, reading = 1, was_sending = 1;
  if (conn->side->engine == LOOP_EPOLL) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    ep = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(ep, EPOLL_CTL_ADD, conn->fd, &event);
  }
  while (reading || (!all_sent(conn) && can_send(conn))) {
    int full = 0, empty = 0;
    for (int i = 0; i < 16 && !full && can_send(conn); i++) full = !sent(conn, step_tx(conn));
    if (was_sending && all_sent(conn)) shut(conn), was_sending = 0;
    for (int i = 0; i < 16 && !empty && reading; i++) {
      read_urgent(conn);
      if (read_enough(conn)) reading = 0;
      else {
        int more = received(conn, step_rx(conn));
        if (more < 0) reading = 0;
        empty = more == 0;
      }
    }
    if ((can_send(conn) && !full) || (reading && !empty)) continue;
    if (!reading && !can_send(conn)) break;
    conn->doing_rx = conn->doing_tx = ep < 0 ? "poll" : "epoll_wait";
    struct epoll_event event;
    if (ep < 0) wait_for(conn, (short)((reading ? POLLIN : 0) | (full ? POLLOUT : 0)));
    else {
      epoll_wait(ep, &event, 1, -1);
      reap_zerocopy(conn);
    }
  }
  if (was_sending && all_sent(conn)) shut(conn);
  if (ep >= 0) close(ep);
  return NULL;
}

static void finish(struct conn *conn) {
  /* Judged here, when the sending thread has ended: the error is told once, to whichever call comes first. */
  if (conn->ended_plainly && !conn->tx_error)
    report(conn, conn->late ? "reset" : "wrong", "end of stream at %ld, not a reset", (long)conn->received);
  int left = conn->peer->urgent >= 0 && !conn->urgent_read && conn->received >= conn->peer->urgent;
  if (left) read_urgent(conn);
  if (!all_sent(conn)) {
    if (!(resets(&conn->plan, conn->me) == 2 && aborts(&conn->plan)))
      report(conn, "wrong", "the peer ended before all was sent: %ld of %ld", (long)conn->sent, conn->side->total);
  } else if (conn->side->tx == TX_ZEROCOPY && !aborts(&conn->plan)) finish_zerocopy(conn);
  if (resets(&conn->plan, conn->me) == 1) {
    struct linger linger = {.l_onoff = 1};
    setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
  }
  if (close(conn->fd)) report(conn, "wrong", "close: %s", strerror(errno));
}

_Noreturn void exchange(struct conn *conn) {
  if (conn->side->start_delay_us) usleep((useconds_t)conn->side->start_delay_us);
  pthread_t worker;
  int loop = conn->side->engine == LOOP_POLL || conn->side->engine == LOOP_EPOLL;
  pthread_create(&worker, NULL, loop ? both_in_a_loop : both_in_threads, conn);
  long last = -1;
  struct timespec now, moved;
  clock_gettime(CLOCK_MONOTONIC, &moved);
  for (;;) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 250 * 1000 * 1000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    if (pthread_timedjoin_np(worker, NULL, &until) == 0) break;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (conn->progress != last) last = conn->progress, moved = now;
    long still = (now.tv_sec - moved.tv_sec) * 1000 + (now.tv_nsec - moved.tv_nsec) / 1000000;
    if (still > STALL_MS) {
      struct pollfd p = {.fd = conn->fd, .events = POLLIN | POLLOUT | POLLPRI | POLLRDHUP};
      poll(&p, 1, 0);
      report(conn, "stall", "no byte moved for %ld ms at sent %ld of %ld, received %ld of %ld, poll says %x", still,
             (long)conn->sent, conn->side->total, (long)conn->received, conn->side->wanted, (unsigned)p.revents);
    }
  }
  finish(conn);
  report(conn, "ok", " ");
}
