/* barring SENDER READER CHUNK CALL: two connected sockets. One process sends numbers in messages of CHUNK bytes; another
 * reads them all, and after a few reads makes a CALL that bars its socket from the short cut, and sends a few bytes, so
 * that the socket is withdrawn while the sender is at it. Status 0: every number came, in order. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NUMBERS = 1 << 20, PATIENCE_MS = 5000, READS_BEFORE = 2 };

static void stay_on(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof(set), &set); /* a machine with one core has the race, too, if seldom */
}

static int ready(int fd, short events) {
  struct pollfd p = {.fd = fd, .events = events};
  return poll(&p, 1, PATIENCE_MS) == 1;
}

static int send_all(int fd, const char *data, size_t size) {
  while (size) {
    ssize_t n = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN && ready(fd, POLLOUT))
      continue;
    if (n < 0)
      return fprintf(stderr, "send: %s\n", strerror(errno)), 1;
    data += n;
    size -= n;
  }
  return 0;
}

static int sender(int fd, size_t chunk) {
  uint32_t *message = malloc(chunk);
  stay_on(1);
  for (uint32_t next = 0; next < NUMBERS;) {
    size_t count = 0;
    while (count < chunk / sizeof(*message) && next < NUMBERS)
      message[count++] = next++;
    if (send_all(fd, (char *)message, count * sizeof(*message)))
      return 1;
  }
  return shutdown(fd, SHUT_WR);
}

static void bar(int fd, const char *call) {
  int one = 1, zero = 0;
  if (!strcmp(call, "lowat"))
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
  else if (!strcmp(call, "fcntl"))
    fcntl(fd, F_SETFL, 0);
  else if (!strcmp(call, "ioctl"))
    ioctl(fd, FIONBIO, &zero);
  else
    send(fd, "o", 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL);
  for (int i = 0; i < 4; i++)
    send(fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int reader(int fd, const char *call) {
  static char data[1 << 20];
  uint32_t next = 0, number = 0;
  int part = 0;
  stay_on(0);
  for (int reads = 1;; reads++) {
    ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN && ready(fd, POLLIN))
      continue;
    if (n < 0)
      return fprintf(stderr, "recv after %u of %u: %s\n", next, NUMBERS, strerror(errno)), 1;
    if (n == 0)
      break;
    if (reads == READS_BEFORE)
      bar(fd, call);
    for (ssize_t i = 0; i < n; i++) {
      number |= (uint32_t)(unsigned char)data[i] << 8 * part;
      if (++part < 4)
        continue;
      if (number != next)
        return fprintf(stderr, "%u came in place of %u\n", number, next), 1;
      next++, part = 0, number = 0;
    }
  }
  return next == NUMBERS ? 0 : (fprintf(stderr, "the end came after %u of %u\n", next, NUMBERS), 1);
}

int main(int argc, char **argv) {
  if (argc != 5)
    return 2;
  int from = atoi(argv[1]), to = atoi(argv[2]), status = 0;
  pid_t child = fork();
  if (!child) {
    close(to);
    _exit(sender(from, atoi(argv[3])));
  }
  close(from);
  int wrong = reader(to, argv[4]);
  close(to);
  waitpid(child, &status, 0);
  return wrong || status;
}
