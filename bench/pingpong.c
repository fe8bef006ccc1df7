// SPDX-License-Identifier: Apache-2.0
/*
 * The load of the bench, over TCP (IPv4, IPv6) or a Unix socket. Sockets are non-blocking and read under epoll, as real
 * servers do; --blocking gives each connection plain blocking calls in a process of its own instead.
 *
 *   pingpong server --listen ADDR --port P | --unix PATH
 *   pingpong rr     --connect ADDR --port P | --unix PATH  --size 64     request/response on one connection
 *   pingpong bulk   ...                                    --size 65536  one way; the far end acknowledges the total
 *   pingpong crr    ...                                    --size 64     a new connection for every request
 *   pingpong hold   ...  the far end stops reading after a warm-up: how many bytes does the kernel take and keep?
 *   pingpong ask    --connect ADDR --port P --ports N      connect(2) of a UDP socket to N ports in turn: no packet goes
 *                                                          out, so what it costs beyond the plain call is the verdict
 *   all: --seconds S  --cpu N (pin to that core)  --blocking
 *
 * A client prints one line of JSON. The first byte on a connection tells the server what it is for. Everything is
 * bounded: a client by --seconds and a 10 s watch on progress, the server by --seconds (default 600) and its parent's
 * life.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STALL_MS = 10000, WARM_MESSAGES = 200, MAX_SAMPLES = 4 << 20, BUFFER = 1 << 20 };
static const char MODE_ECHO = 'r', MODE_SINK = 't', MODE_HOLD = 'h';

static struct {
	const char *mode, *address, *unix_path;
	int port, ports, cpu;
	long size;
	double seconds;
	bool blocking;
} opt = {.cpu = -1, .seconds = 1, .size = 64, .port = 7000, .ports = 1};

static char buffer[BUFFER];

static void die(const char *what)
{
	fprintf(stderr, "pingpong %s: %s: %s\n", opt.mode, what, strerror(errno));
	exit(1);
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- sockets ---- */

static socklen_t make_address(struct sockaddr_storage *out)
{
	memset(out, 0, sizeof *out);
	if (opt.unix_path) {
		struct sockaddr_un *a = (void *)out;
		a->sun_family = AF_UNIX;
		strncpy(a->sun_path, opt.unix_path, sizeof a->sun_path - 1);
		return sizeof *a;
	}
	if (strchr(opt.address, ':')) {
		struct sockaddr_in6 *a = (void *)out;
		a->sin6_family = AF_INET6;
		a->sin6_port = htons((uint16_t)opt.port);
		if (inet_pton(AF_INET6, opt.address, &a->sin6_addr) != 1)
			die(opt.address);
		return sizeof *a;
	}
	struct sockaddr_in *a = (void *)out;
	a->sin_family = AF_INET;
	a->sin_port = htons((uint16_t)opt.port);
	if (inet_pton(AF_INET, opt.address, &a->sin_addr) != 1)
		die(opt.address);
	return sizeof *a;
}

static void no_delay(int fd)
{
	int one = 1;
	if (!opt.unix_path)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* One epoll set per client process; it holds one socket at a time, which leaves it by being closed. */
static int client_epoll = -1, watched_fd = -1;
static uint32_t watched_events;

static void wait_for(uint32_t events, int fd)
{
	if (opt.blocking)
		return;
	struct epoll_event e = {.events = events, .data.fd = fd};
	if (watched_fd != fd || watched_events != events) {
		if (epoll_ctl(client_epoll, watched_fd == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) < 0)
			die("epoll_ctl");
		watched_fd = fd;
		watched_events = events;
	}
	int n = epoll_wait(client_epoll, &e, 1, STALL_MS);
	if (n < 0)
		die("epoll_wait");
	if (n == 0) {
		fprintf(stderr, "pingpong %s: no progress for %d s\n", opt.mode, STALL_MS / 1000);
		exit(2);
	}
}

static int dial(void)
{
	struct sockaddr_storage address;
	socklen_t length = make_address(&address);
	int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (opt.blocking ? 0 : SOCK_NONBLOCK), 0);
	if (fd < 0)
		die("socket");
	no_delay(fd);
	if (connect(fd, (void *)&address, length) == 0)
		return fd;
	if (errno != EINPROGRESS)
		die("connect");
	wait_for(EPOLLOUT, fd);
	int error = 0;
	socklen_t size = sizeof error;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) {
		errno = error;
		die("connect");
	}
	return fd;
}

static void send_all(int fd, const char *data, long size)
{
	while (size > 0) {
		ssize_t n = send(fd, data, (size_t)size, MSG_NOSIGNAL);
		if (n > 0) {
			data += n;
			size -= n;
		} else if (errno == EAGAIN) {
			wait_for(EPOLLOUT, fd);
		} else {
			die("send");
		}
	}
}

static void receive_all(int fd, char *data, long size)
{
	while (size > 0) {
		wait_for(EPOLLIN, fd);
		ssize_t n = recv(fd, data, (size_t)size, 0);
		if (n > 0) {
			data += n;
			size -= n;
		} else if (n == 0) {
			errno = ECONNRESET;
			die("the server closed early");
		} else if (errno != EAGAIN) {
			die("recv");
		}
	}
}

/* ---- the server ---- */

struct connection {
	int fd;
	char mode;
	long pending, sent; /* echo: bytes of data not yet sent back, and how many of them are gone */
	uint64_t total;
	long warm; /* hold: messages still echoed before it stops reading */
	char data[65536];
};

static bool finish_sink(struct connection *c)
{
	return send(c->fd, &c->total, sizeof c->total, MSG_NOSIGNAL) == sizeof c->total;
}

/* Sends what is pending; false when the connection is over. */
static bool flush(struct connection *c)
{
	while (c->sent < c->pending) {
		ssize_t n = send(c->fd, c->data + c->sent, (size_t)(c->pending - c->sent), MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN;
		c->sent += n;
	}
	c->pending = c->sent = 0;
	return true;
}

/* One readable event; false when the connection is over. */
static bool serve(struct connection *c)
{
	if (!c->mode) {
		ssize_t n = recv(c->fd, &c->mode, 1, 0);
		if (n < 1)
			return n < 0 && errno == EAGAIN;
		c->warm = c->mode == MODE_HOLD ? WARM_MESSAGES : 0;
		return true;
	}
	if (c->mode == MODE_SINK) {
		ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
		if (n > 0)
			c->total += (uint64_t)n;
		else if (n == 0)
			finish_sink(c);
		return n > 0 || (n < 0 && errno == EAGAIN);
	}
	ssize_t n = recv(c->fd, c->data, sizeof c->data, 0);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->pending = n;
	c->sent = 0;
	if (c->warm)
		c->warm--;
	return flush(c);
}

static bool holds(const struct connection *c)
{
	return c->mode == MODE_HOLD && c->warm == 0 && c->pending == 0;
}

static int listen_socket(void)
{
	struct sockaddr_storage address;
	socklen_t length = make_address(&address);
	int one = 1, fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (opt.blocking ? 0 : SOCK_NONBLOCK), 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (opt.unix_path)
		unlink(opt.unix_path);
	if (bind(fd, (void *)&address, length) < 0)
		die("bind");
	if (listen(fd, 4096) < 0)
		die("listen");
	return fd;
}

static void serve_with_epoll(int listener)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ready[64], e = {.events = EPOLLIN, .data.ptr = NULL};
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e);
	for (double end = now() + opt.seconds; now() < end;) {
		int n = epoll_wait(epoll, ready, 64, 1000);
		for (int i = 0; i < n; i++) {
			struct connection *c = ready[i].data.ptr;
			if (!c) {
				int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
				if (fd < 0)
					continue;
				no_delay(fd);
				c = malloc(sizeof *c);
				if (!c)
					die("malloc");
				memset(c, 0, offsetof(struct connection, data));
				c->fd = fd;
				e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
				epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
				continue;
			}
			bool open = c->pending ? flush(c) : !(ready[i].events & EPOLLIN) || serve(c);
			if (ready[i].events & (EPOLLHUP | EPOLLERR))
				open = false;
			if (!open) {
				close(c->fd);
				free(c);
			} else if (c->pending || holds(c)) {
				e = (struct epoll_event){.events = c->pending ? EPOLLOUT : 0, .data.ptr = c};
				epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
			} else if (ready[i].events & EPOLLOUT) {
				e = (struct epoll_event){.events = EPOLLIN, .data.ptr = c};
				epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
			}
		}
	}
}

static void serve_blocking(int listener)
{
	signal(SIGCHLD, SIG_IGN);
	alarm((unsigned)opt.seconds);
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			alarm((unsigned)opt.seconds);
			no_delay(fd);
			static struct connection c;
			c.fd = fd;
			while (serve(&c)) {
				struct pollfd p = {.fd = fd};
				if (holds(&c)) {
					poll(&p, 1, (int)(opt.seconds * 1000)); /* until the client hangs up */
					break;
				}
			}
			_exit(0);
		}
		close(fd);
	}
}

/* ---- the clients ---- */

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static void report_rate(float *samples, long count, double elapsed)
{
	long kept = count < MAX_SAMPLES ? count : MAX_SAMPLES;
	if (kept == 0) {
		fprintf(stderr, "pingpong %s: nothing was answered in %.1f s\n", opt.mode, elapsed);
		exit(2);
	}
	qsort(samples, (size_t)kept, sizeof *samples, by_value);
	printf("{\"mode\": \"%s\", \"size\": %ld, \"count\": %ld, \"seconds\": %.3f, \"rate\": %.1f, "
	       "\"p50_us\": %.2f, \"p99_us\": %.2f}\n",
	       opt.mode, opt.size, count, elapsed, (double)count / elapsed, samples[kept / 2] * 1e6,
	       samples[kept * 99 / 100] * 1e6);
}

static void request_response(bool reconnect)
{
	float *samples = malloc(MAX_SAMPLES * sizeof *samples);
	if (!samples)
		die("malloc");
	int fd = -1;
	long count = 0;
	if (!reconnect) {
		fd = dial();
		send_all(fd, &MODE_ECHO, 1);
		for (double end = now() + 0.2; now() < end;) { /* not counted: slow start, probation, cold caches */
			send_all(fd, buffer, opt.size);
			receive_all(fd, buffer, opt.size);
		}
	}
	double start = now(), end = start + opt.seconds, before = start;
	while (before < end) {
		if (reconnect) {
			fd = dial();
			buffer[0] = MODE_ECHO;
			send_all(fd, buffer, opt.size + 1);
		} else {
			send_all(fd, buffer, opt.size);
		}
		receive_all(fd, buffer, opt.size);
		if (reconnect) {
			close(fd);
			watched_fd = -1;
		}
		double after = now();
		if (count < MAX_SAMPLES)
			samples[count] = (float)(after - before);
		count++;
		before = after;
	}
	report_rate(samples, count, before - start);
}

static void bulk(void)
{
	int fd = dial();
	uint64_t sent = 0, seen = 0;
	send_all(fd, &MODE_SINK, 1);
	double start = now();
	for (double end = start + opt.seconds; now() < end; sent += (uint64_t)opt.size)
		send_all(fd, buffer, opt.size);
	shutdown(fd, SHUT_WR);
	receive_all(fd, (char *)&seen, sizeof seen);
	double elapsed = now() - start;
	if (seen != sent) {
		fprintf(stderr, "pingpong bulk: sent %llu bytes, the server saw %llu\n", (unsigned long long)sent,
			(unsigned long long)seen);
		exit(3);
	}
	printf("{\"mode\": \"bulk\", \"size\": %ld, \"bytes\": %llu, \"seconds\": %.3f, \"gbit_s\": %.3f}\n", opt.size,
	       (unsigned long long)sent, elapsed, (double)sent * 8 / elapsed / 1e9);
}

static void hold(void)
{
	const uint64_t cap = 256u << 20; /* a kernel without any bound would take all memory: enough to see that */
	uint64_t taken = 0;
	int fd = dial(), queued = 0;
	send_all(fd, &MODE_HOLD, 1);
	for (int i = 0; i < WARM_MESSAGES; i++) { /* as in a live connection: the reader has read, then it stops */
		send_all(fd, buffer, opt.size);
		receive_all(fd, buffer, opt.size);
		usleep(i % 20 ? 0 : 1000);
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	double quiet = now(), end = quiet + opt.seconds;
	while (now() < end && now() - quiet < 0.5 && taken < cap) {
		ssize_t n = send(fd, buffer, 16384, MSG_NOSIGNAL);
		if (n > 0) {
			taken += (uint64_t)n;
			quiet = now();
		} else if (errno == EAGAIN) {
			usleep(1000);
		} else {
			die("send");
		}
	}
	ioctl(fd, TIOCOUTQ, &queued);
	/* Gone at once: a FIN would wait behind all that nobody reads. */
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
	printf("{\"mode\": \"hold\", \"held_bytes\": %llu, \"in_send_queue\": %d, \"capped\": %s}\n",
	       (unsigned long long)taken, queued, taken >= cap ? "true" : "false");
}

static void ask(void)
{
	struct sockaddr_storage address;
	socklen_t length = make_address(&address);
	struct sockaddr_in *v4 = (void *)&address; /* the port is at the same place in both families */
	int fd = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	enum { BATCH = 64 };
	float *samples = malloc(MAX_SAMPLES * sizeof *samples);
	if (!samples)
		die("malloc");
	long count = 0;
	int port = 0;
	double before = now(), end = before + opt.seconds;
	while (before < end && count < MAX_SAMPLES) {
		for (int i = 0; i < BATCH; i++) {
			v4->sin_port = htons((uint16_t)(opt.port + port));
			port = port + 1 < opt.ports ? port + 1 : 0;
			if (connect(fd, (void *)&address, length) < 0)
				die("connect");
		}
		double after = now();
		samples[count++] = (float)((after - before) / BATCH * 1e9);
		before = after;
	}
	/* The median batch: one that was interrupted says nothing about the call. */
	qsort(samples, (size_t)count, sizeof *samples, by_value);
	printf("{\"mode\": \"ask\", \"ports\": %d, \"count\": %ld, \"ns_each\": %.2f}\n", opt.ports, count * BATCH,
	       samples[count / 2]);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"listen", required_argument, NULL, 'a'}, {"connect", required_argument, NULL, 'a'},
		{"port", required_argument, NULL, 'p'},   {"unix", required_argument, NULL, 'u'},
		{"size", required_argument, NULL, 's'},   {"seconds", required_argument, NULL, 't'},
		{"cpu", required_argument, NULL, 'c'},    {"blocking", no_argument, NULL, 'b'},
		{"ports", required_argument, NULL, 'n'},
		{NULL, 0, NULL, 0},
	};
	if (argc < 2) {
		fprintf(stderr, "usage: pingpong server|rr|bulk|crr|hold|ask --port P --listen|--connect ADDR ...\n");
		exit(64);
	}
	opt.mode = argv[1];
	if (!strcmp(opt.mode, "server"))
		opt.seconds = 600;
	if (!strcmp(opt.mode, "bulk"))
		opt.size = 65536;
	for (int c; (c = getopt_long(argc - 1, argv + 1, "", options, NULL)) != -1;) {
		switch (c) {
		case 'a': opt.address = optarg; break;
		case 'p': opt.port = atoi(optarg); break;
		case 'u': opt.unix_path = optarg; break;
		case 's': opt.size = atol(optarg); break;
		case 't': opt.seconds = atof(optarg); break;
		case 'c': opt.cpu = atoi(optarg); break;
		case 'b': opt.blocking = true; break;
		case 'n': opt.ports = atoi(optarg); break;
		default: exit(64);
		}
	}
	if (!opt.address && !opt.unix_path) {
		fprintf(stderr, "pingpong %s: say --connect, --listen or --unix\n", opt.mode);
		exit(64);
	}
	if (opt.size < 1 || opt.size >= BUFFER || opt.seconds <= 0 || opt.seconds > 3600) {
		fprintf(stderr, "pingpong %s: --size is 1 to %d, --seconds up to 3600\n", opt.mode, BUFFER - 1);
		exit(64);
	}
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (opt.cpu >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(opt.cpu, &set);
		if (sched_setaffinity(0, sizeof set, &set) < 0)
			die("--cpu");
	}
	if (!strcmp(opt.mode, "server")) {
		int listener = listen_socket();
		if (opt.blocking)
			serve_blocking(listener);
		else
			serve_with_epoll(listener);
		return 0;
	}
	client_epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!strcmp(opt.mode, "rr"))
		request_response(false);
	else if (!strcmp(opt.mode, "crr"))
		request_response(true);
	else if (!strcmp(opt.mode, "bulk"))
		bulk();
	else if (!strcmp(opt.mode, "hold"))
		hold();
	else if (!strcmp(opt.mode, "ask"))
		ask();
	else
		die("unknown mode");
	return 0;
}
