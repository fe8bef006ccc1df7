/* stream server PORT SEED FIRST | stream client V4 V6 PORT SEED FIRST COUNT PARALLEL | stream plan SEED FIRST COUNT
 * stream rings: whether this kernel lets us have an io_uring
 *
 * The server listens on PORT (IPv4), PORT+1 (IPv6) and PORT+2 (one socket for both). The client's own port says which
 * connection it is (FIRST + port - CLIENT_BASE), so no byte of the stream is needed to tell. Each connection is a process
 * on each side, and a line of JSON from each.
 *
 * The mesh remembers programs, by executable, that use io_uring or that read first and splice later. So plans with those
 * are made only by executables whose names begin with `rings` and `late`.
 */
#define _GNU_SOURCE
#include "exchange.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENT_BASE 10000

static enum mode mode;

static void fatal(const char *what) {
  fprintf(stderr, "stream: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void child_setup(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);
}

static socklen_t address(struct sockaddr_storage *out, const char *text, int port) {
  struct sockaddr_in *v4 = (void *)out;
  struct sockaddr_in6 *v6 = (void *)out;
  memset(out, 0, sizeof *out);
  if (strchr(text, ':')) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons((uint16_t)port);
    if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1) fatal(text);
    return sizeof *v6;
  }
  v4->sin_family = AF_INET;
  v4->sin_port = htons((uint16_t)port);
  if (inet_pton(AF_INET, text, &v4->sin_addr) != 1) fatal(text);
  return sizeof *v4;
}

static void listener(struct pollfd *out, const char *any, int port, int only_v6) {
  struct sockaddr_storage where;
  socklen_t size = address(&where, any, port);
  int fd = socket(where.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (where.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6);
  if (bind(fd, (void *)&where, size) || listen(fd, 1024)) fatal("listen");
  *out = (struct pollfd){.fd = fd, .events = POLLIN};
}

static void serve(int port, uint64_t seed, uint64_t first) {
  struct pollfd sockets[3];
  listener(&sockets[0], "0.0.0.0", port, 0);
  listener(&sockets[1], "::", port + 1, 1);
  listener(&sockets[2], "::", port + 2, 0);
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    poll(sockets, 3, -1);
    for (int i = 0; i < 3; i++) {
      struct sockaddr_storage peer;
      socklen_t size = sizeof peer;
      /* Of the dual socket non-blocking from the start, of the others switched later: programs do either. */
      int fd = accept4(sockets[i].fd, (void *)&peer, &size, i == 2 ? SOCK_NONBLOCK : 0);
      if (fd < 0) continue;
      int number = ntohs(peer.ss_family == AF_INET ? ((struct sockaddr_in *)&peer)->sin_port
                                                   : ((struct sockaddr_in6 *)&peer)->sin6_port);
      if (number >= CLIENT_BASE && fork() == 0) {
        child_setup();
        for (int j = 0; j < 3; j++) close(sockets[j].fd);
        static struct plan plan;
        static struct conn conn;
        make_plan(&plan, seed, first + (uint64_t)(number - CLIENT_BASE), mode);
        open_transfer(&conn, &plan, SERVER, fd);
        exchange(&conn);
      }
      close(fd);
    }
  }
}

static void call(const char *v4, const char *v6, int port, uint64_t seed, uint64_t first, uint64_t id) {
  static struct plan plan;
  static struct conn conn;
  char mapped[64];
  make_plan(&plan, seed, id, mode);
  snprintf(mapped, sizeof mapped, "::ffff:%s", v4);
  const char *to = plan.family == V4_MAPPED ? mapped : plan.family == V6 || plan.family == V6_DUAL ? v6 : v4;
  struct sockaddr_storage local, remote;
  socklen_t size = address(&remote, to, port + (plan.family == V4 ? 0 : plan.family == V6 ? 1 : 2));
  int nonblock = plan.side[CLIENT].engine != BLOCKING && (id & 1), on = 1;
  int fd = socket(remote.ss_family, SOCK_STREAM | (nonblock ? SOCK_NONBLOCK : 0), 0);
  address(&local, remote.ss_family == AF_INET ? "0.0.0.0" : "::", CLIENT_BASE + (int)(id - first));
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (void *)&local, size)) fatal("bind");
  int error = connect(fd, (void *)&remote, size) ? errno : 0;
  if (error == EINPROGRESS) {
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    socklen_t n = sizeof error;
    if (poll(&p, 1, 5000) == 0) error = ETIMEDOUT;
    else getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &n);
  }
  open_transfer(&conn, &plan, CLIENT, fd);
  int expected = error == ECONNRESET && aborts(&plan) && resets(&plan, CLIENT) == 2; /* sooner than we looked */
  if (expected) report(&conn, "ok", " ");
  if (error) report(&conn, error == ETIMEDOUT ? "stall" : "error", "connect: %s", strerror(error));
  exchange(&conn);
}

static void call_all(char **argv) {
  uint64_t seed = strtoull(argv[5], NULL, 0), first = strtoull(argv[6], NULL, 0), count = strtoull(argv[7], NULL, 0);
  int parallel = atoi(argv[8]), running = 0;
  for (uint64_t id = first; id < first + count || running;) {
    if (id < first + count && running < parallel) {
      if (fork() == 0) {
        child_setup();
        call(argv[2], argv[3], atoi(argv[4]), seed, first, id);
      }
      id++, running++;
      continue;
    }
    if (wait(NULL) > 0) running--;
  }
}

int main(int argc, char **argv) {
  const char *name = strrchr(argv[0], '/');
  name = name ? name + 1 : argv[0];
  mode = strncmp(name, "rings", 5) == 0 ? RINGS : strncmp(name, "late", 4) == 0 ? LATE : PLAIN;
  if (argc == 5 && !strcmp(argv[1], "server")) serve(atoi(argv[2]), strtoull(argv[3], NULL, 0), strtoull(argv[4], NULL, 0));
  else if (argc == 9 && !strcmp(argv[1], "client")) call_all(argv);
  else if (argc == 5 && !strcmp(argv[1], "plan")) {
    static struct plan plan;
    uint64_t first = strtoull(argv[3], NULL, 0), count = strtoull(argv[4], NULL, 0);
    for (uint64_t id = first; id < first + count; id++) {
      make_plan(&plan, strtoull(argv[2], NULL, 0), id, mode);
      print_plan(&plan);
    }
  } else if (argc == 2 && !strcmp(argv[1], "rings")) {
    struct io_uring ring;
    int error = io_uring_queue_init(4, &ring, 0);
    puts(error ? strerror(-error) : "yes");
  } else {
    fprintf(stderr, "usage: see the head of stream.c\n");
    return 2;
  }
  return 0;
}
