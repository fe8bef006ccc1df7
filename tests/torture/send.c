#define _GNU_SOURCE
#include "transfer.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIPE_SIZE 65536

static long segment_end(const struct conn *conn) {
  long end = 0;
  for (int i = 0; i <= conn->segment; i++) end += conn->side->segment[i].size;
  return end;
}

static int urgent_due(const struct conn *conn) {
  return conn->side->urgent >= 0 && !conn->urgent_sent && conn->sent == conn->side->urgent;
}

int all_sent(const struct conn *conn) {
  return conn->tx_error || (conn->sent == conn->side->total && !urgent_due(conn));
}

int can_send(struct conn *conn) {
  if (all_sent(conn)) return 0;
  if (urgent_due(conn)) return 1;
  while (conn->segment < conn->side->segments - 1 && conn->sent >= segment_end(conn)) conn->segment++;
  return conn->received >= conn->side->segment[conn->segment].wait;
}

void reap_zerocopy(struct conn *conn) {
  char control[256];
  while (conn->zc_done < conn->zc_sent) {
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(conn->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
      struct sock_extended_err *error = (void *)CMSG_DATA(c);
      if (error->ee_origin == SO_EE_ORIGIN_ZEROCOPY) conn->zc_done += error->ee_data - error->ee_info + 1;
    }
  }
}

void finish_zerocopy(struct conn *conn) {
  conn->doing_tx = "waiting for zerocopy notices";
  unsigned before = conn->zc_done;
  for (int i = 0; conn->zc_done < conn->zc_sent && !conn->tx_error; i++) {
    usleep(10000); /* poll would not wait once both directions have ended */
    reap_zerocopy(conn);
    if (conn->zc_done != before) before = conn->zc_done, i = 0;
    if (i == 500 && conn->zc_done < conn->zc_sent)
      report(conn, "wrong", "%u of %u zerocopy sends were never said to be done", conn->zc_sent - conn->zc_done,
             conn->zc_sent);
  }
}

static long send_many(struct conn *conn, uint8_t *data, long n, int flags) {
  struct iovec iov[256];
  int count = 0, most = 1 + (int)below(&conn->tx_rng, 256);
  for (long left = n; left > 0 && count < most; count++) {
    long piece = count == most - 1 ? left : below(&conn->tx_rng, left + 1); /* empty pieces, too */
    if (left > 300 && count < most - 1) piece = below(&conn->tx_rng, 300);
    iov[count] = (struct iovec){data + (n - left), (size_t)piece};
    left -= piece;
  }
  struct msghdr message = {.msg_iov = iov, .msg_iovlen = (size_t)count};
  return flags || below(&conn->tx_rng, 2) ? sendmsg(conn->fd, &message, flags) : writev(conn->fd, iov, count);
}

static long send_pipe(struct conn *conn, uint8_t *data, long n, int map, int flags) {
  if (!conn->piped) {
    struct iovec iov = {data, (size_t)(n < PIPE_SIZE ? n : PIPE_SIZE)};
    conn->piped = map ? vmsplice(conn->tx_pipe[1], &iov, 1, SPLICE_F_NONBLOCK)
                      : write(conn->tx_pipe[1], iov.iov_base, iov.iov_len);
    if (conn->piped <= 0) report(conn, "error", "filling a pipe: %s", strerror(errno));
  }
  long done = splice(conn->tx_pipe[0], NULL, conn->fd, NULL, (size_t)conn->piped, (unsigned)flags);
  if (done > 0) conn->piped -= done;
  return done;
}

static long send_uring(struct conn *conn, uint8_t *data, long n, int flags) {
  struct io_uring_cqe *cqe;
  struct io_uring_sqe *sqe = io_uring_get_sqe(&conn->tx_ring);
  io_uring_prep_send(sqe, conn->fd, data, (size_t)n, flags);
  io_uring_submit(&conn->tx_ring);
  int failed;
  do failed = io_uring_wait_cqe(&conn->tx_ring, &cqe);
  while (failed == -EINTR);
  if (failed) report(conn, "error", "io_uring: %s", strerror(-failed));
  long done = cqe->res;
  io_uring_cqe_seen(&conn->tx_ring, cqe);
  if (done < 0) errno = (int)-done;
  return done < 0 ? -1 : done;
}

static long send_zerocopy(struct conn *conn, uint8_t *data, long n, int flags) {
  reap_zerocopy(conn);
  long done = send(conn->fd, data, (size_t)n, flags | MSG_ZEROCOPY);
  if (done < 0 && errno == ENOBUFS) return send(conn->fd, data, (size_t)n, flags); /* too many in flight: allowed */
  if (done > 0) conn->zc_sent++;
  return done;
}

static void cork(struct conn *conn, int on) { setsockopt(conn->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on); }

long step_tx(struct conn *conn) {
  struct side *side = conn->side;
  long position = conn->sent, end = segment_end(conn), done;
  if (urgent_due(conn)) {
    uint8_t byte = urgent_byte(conn->key_out);
    conn->doing_tx = "send urgent";
    done = send(conn->fd, &byte, 1, MSG_OOB | MSG_NOSIGNAL);
    if (done < 0) return -errno;
    conn->urgent_sent = 1;
    atomic_fetch_add(&conn->progress, 1);
    return done;
  }
  if (side->urgent > position && side->urgent < end) end = side->urgent;
  long n = 1 + below(&conn->tx_rng, side->tx_chunk);
  if (conn->piped) n = conn->piped; /* left from a splice that took a part */
  if (n > end - position) n = end - position;
  int flags = MSG_NOSIGNAL | (side->more && n < end - position && chance(&conn->tx_rng, 50) ? MSG_MORE : 0);
  int nonblock = side->engine != BLOCKING;
  uint8_t *data = conn->out + position;
  off_t offset = position;
  if (side->cork) cork(conn, 1);
  conn->doing_tx = "send";
  switch (side->tx) {
  case TX_SENDMSG: done = send_many(conn, data, n, below(&conn->tx_rng, 2) ? flags : 0); break;
  case TX_SENDFILE: done = sendfile(conn->fd, conn->memfd, &offset, (size_t)n); break;
  case TX_SPLICE:
  case TX_VMSPLICE:
    done = send_pipe(conn, data, n, side->tx == TX_VMSPLICE,
                     (nonblock ? SPLICE_F_NONBLOCK : 0) | (flags & MSG_MORE ? SPLICE_F_MORE : 0));
    break;
  case TX_ZEROCOPY: done = send_zerocopy(conn, data, n, flags); break;
  case TX_URING: done = send_uring(conn, data, n, flags); break;
  default: done = below(&conn->tx_rng, 2) ? send(conn->fd, data, (size_t)n, flags) : write(conn->fd, data, (size_t)n);
  }
  int error = errno;
  conn->doing_tx = "between sends";
  if (done > 0) {
    conn->sent += done;
    atomic_fetch_add(&conn->progress, 1);
    if (side->cork && conn->sent == end) cork(conn, 0);
    return done;
  }
  if (done == 0) report(conn, "wrong", "a send of %ld bytes at offset %ld returned 0", n, position);
  if (error == EAGAIN && !nonblock) report(conn, "wrong", "EAGAIN from a blocking send at offset %ld", position);
  return -error;
}
