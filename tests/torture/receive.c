#define _GNU_SOURCE
#include "transfer.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* How many bytes the peer will send from here on without waiting for us: asking for more at once would be our fault. */
static long until_boundary(const struct conn *conn) {
  long end = 0;
  for (int i = 0; i < conn->peer->segments; i++) {
    end += conn->peer->segment[i].size;
    if (end > conn->received) return end - conn->received;
  }
  return 0;
}

/* Where do these bytes belong? Helps to tell loss from reordering from garbage. */
static long find(struct conn *conn, const uint8_t *data, long n) {
  uint8_t some[64];
  if (n < 16) return -1;
  for (long at = 0; at + 16 <= conn->peer->total; at++) {
    fill(some, conn->key_in, at, 16);
    if (!memcmp(some, data, 16)) return at;
  }
  return -1;
}

static void check(struct conn *conn, long position, long n, const char *how) {
  if (position + n > conn->peer->total)
    report(conn, "wrong", "%s: %ld bytes more than were sent", how, position + n - conn->peer->total);
  long bad = first_wrong(conn->in, conn->key_in, position, n);
  if (bad >= 0)
    report(conn, "wrong", "%s: wrong byte at offset %ld of %ld; these bytes belong at offset %ld", how, position + bad,
           conn->peer->total, find(conn, conn->in + bad, n - bad));
}

void read_urgent(struct conn *conn) {
  uint8_t byte = 0;
  if (conn->peer->urgent < 0 || conn->urgent_read || conn->received != conn->peer->urgent) return;
  conn->doing_rx = "waiting for the urgent byte";
  struct pollfd p = {.fd = conn->fd, .events = POLLPRI};
  int ready = 0;
  for (int i = 0; i < 100; i++) { /* notices of zerocopy sends end the poll, too */
    ready = poll(&p, 1, 50);
    if (p.revents & (POLLPRI | POLLHUP)) break;
    if (ready) usleep(1000);
  }
  long n = recv(conn->fd, &byte, 1, MSG_OOB);
  conn->urgent_read = 1;
  if (n == 1 && byte == urgent_byte(conn->key_in)) return;
  if (resets(&conn->plan, conn->me) == 2 && aborts(&conn->plan)) return; /* lost with the connection */
  int error = errno;
  if (conn->late && n < 0 && (p.revents & POLLERR)) return; /* reset by the mesh: the next read says so */
  report(conn, "wrong", "urgent byte at offset %ld: poll %d, revents %x, recv %ld (%s), byte %02x, not %02x",
         conn->peer->urgent, ready, (unsigned)p.revents, n, n < 0 ? strerror(error) : "no error", byte,
         urgent_byte(conn->key_in));
}

static long read_many(struct conn *conn, long n) {
  struct iovec iov[16];
  int count = 0;
  for (long left = n; left > 0 && count < 16; count++) {
    long piece = count == 15 ? left : 1 + below(&conn->rx_rng, left);
    iov[count] = (struct iovec){conn->in + (n - left), (size_t)piece};
    left -= piece;
  }
  struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
  return below(&conn->rx_rng, 2) ? recvmsg(conn->fd, &message, 0) : readv(conn->fd, iov, count);
}

static long read_pipe(struct conn *conn, long n, int nonblock) {
  conn->doing_rx = "splice";
  long done = splice(conn->fd, NULL, conn->rx_pipe[1], NULL, (size_t)(n < 65536 ? n : 65536),
                     nonblock ? SPLICE_F_NONBLOCK : 0);
  for (long got = 0; got < done;) {
    long piece = read(conn->rx_pipe[0], conn->in + got, (size_t)(done - got));
    if (piece <= 0) report(conn, "wrong", "splice said %ld bytes, the pipe held %ld", done, got);
    got += piece;
  }
  return done;
}

static long read_uring(struct conn *conn, long n) {
  struct io_uring_cqe *cqe;
  struct io_uring_sqe *sqe = io_uring_get_sqe(&conn->rx_ring);
  io_uring_prep_recv(sqe, conn->fd, conn->in, (size_t)n, 0);
  io_uring_submit(&conn->rx_ring);
  conn->doing_rx = "io_uring recv";
  int failed;
  do failed = io_uring_wait_cqe(&conn->rx_ring, &cqe);
  while (failed == -EINTR);
  if (failed) report(conn, "error", "io_uring: %s", strerror(-failed));
  long done = cqe->res;
  io_uring_cqe_seen(&conn->rx_ring, cqe);
  if (done < 0) errno = (int)-done;
  return done < 0 ? -1 : done;
}

static void set_lowat(struct conn *conn, long left) {
  int value = left < conn->side->lowat ? (int)left : conn->side->lowat;
  if (value < 1) value = 1;
  if (value != conn->lowat_now) setsockopt(conn->fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
  conn->lowat_now = value;
}

/* With its buffer or its window nearly full TCP itself says readable below the mark: many tiny segments do that. */
static int buffer_full(int fd) {
  uint32_t memory[9] = {0}; /* of the receive queue, then the buffer's size */
  socklen_t size = sizeof memory;
  getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size);
  return memory[0] > memory[1] / 2;
}

/* Read with SO_RCVLOWAT, always after poll: a blocking read that has taken a part already would never be woken for the
 * rest, as TCP counts only what is still queued against the mark (so on plain TCP, 6.18): below it, do not wait. */
static long read_marked(struct conn *conn, long n, int nonblock) {
  struct pollfd p = {.fd = conn->fd, .events = POLLIN | POLLRDHUP};
  int queued = 0;
  conn->doing_rx = "poll with SO_RCVLOWAT";
  for (;;) {
    poll(&p, 1, nonblock ? 0 : -1);
    if (p.revents & ~POLLERR) break;
    if (p.revents) reap_zerocopy(conn); /* a notice for a sender says nothing about reading */
    if (nonblock) {
      errno = EAGAIN;
      return -1;
    }
  }
  ioctl(conn->fd, FIONREAD, &queued);
  conn->marked_polls++;
  if (p.revents == POLLIN && queued < conn->lowat_now && !buffer_full(conn->fd)) conn->early_polls++;
  if (conn->early_polls > 3 && conn->early_polls > conn->marked_polls / 4)
    report(conn, "wrong", "offset %ld: readable with %d bytes, below the mark of %d, %d times of %d",
           conn->received, queued, conn->lowat_now, conn->early_polls, conn->marked_polls);
  conn->doing_rx = "recv with SO_RCVLOWAT";
  return recv(conn->fd, conn->in, (size_t)n, queued < conn->lowat_now ? MSG_DONTWAIT : 0);
}

static long peek(struct conn *conn, long n) {
  conn->doing_rx = "peek";
  long seen = recv(conn->fd, conn->in, (size_t)n, MSG_PEEK);
  if (seen <= 0) return seen;
  check(conn, conn->received, seen, "peek");
  conn->doing_rx = "read after peek";
  memset(conn->in, 0, (size_t)seen);
  long done = recv(conn->fd, conn->in, (size_t)seen, 0);
  if (done < seen && resets(&conn->plan, conn->me) != 2 && !conn->late)
    report(conn, "wrong", "offset %ld: peek saw %ld bytes, the read after it returned %ld (%s)", conn->received, seen,
           done, done < 0 ? strerror(errno) : "");
  return done;
}

long step_rx(struct conn *conn) {
  struct side *side = conn->side;
  int nonblock = side->engine != BLOCKING;
  long n = 1 + below(&conn->rx_rng, side->rx_chunk), done;
  if (conn->slow_left > 0 && chance(&conn->rx_rng, 30)) {
    conn->slow_left--;
    usleep((useconds_t)side->slow_us);
  }
  read_urgent(conn);
  long position = conn->received, left = until_boundary(conn);
  if (conn->peer->urgent > position && n > conn->peer->urgent - position) n = conn->peer->urgent - position;
  if (side->wanted < conn->peer->total && n > side->wanted - position) n = side->wanted - position;
  conn->doing_rx = "recv";
  switch (side->rx) {
  case RX_RECVMSG: done = read_many(conn, n); break;
  case RX_PEEK: done = peek(conn, n); break;
  case RX_WAITALL:
    if (left && n > left) n = left;
    conn->doing_rx = "recv with MSG_WAITALL";
    done = recv(conn->fd, conn->in, (size_t)n, MSG_WAITALL);
    break;
  case RX_LOWAT:
    set_lowat(conn, left < side->wanted - position ? left : side->wanted - position);
    done = read_marked(conn, n, nonblock);
    break;
  case RX_SPLICE: done = read_pipe(conn, n, nonblock); break;
  case RX_LATE: done = position < side->late ? recv(conn->fd, conn->in, (size_t)n, 0) : read_pipe(conn, n, nonblock); break;
  case RX_URING: done = read_uring(conn, n); break;
  default: done = below(&conn->rx_rng, 2) ? recv(conn->fd, conn->in, (size_t)n, 0) : read(conn->fd, conn->in, (size_t)n);
  }
  int error = errno;
  conn->doing_rx = "between reads";
  if (done < 0) {
    if (error == EAGAIN && !nonblock) report(conn, "wrong", "EAGAIN from a blocking read at offset %ld", position);
    return -error;
  }
  if (done == 0) return 0;
  if (conn->short_at >= 0) report(conn, "wrong", "the read at offset %ld was short, and yet more came", conn->short_at);
  check(conn, position, done, "read");
  long enough = side->rx == RX_WAITALL && !nonblock ? n : 0;
  if (done < enough) conn->short_at = position;
  conn->received += done;
  atomic_fetch_add(&conn->progress, 1);
  pthread_mutex_lock(&conn->lock);
  pthread_cond_broadcast(&conn->changed);
  pthread_mutex_unlock(&conn->lock);
  return done;
}
