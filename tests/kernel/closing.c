/* A library for test_closing.py: closes two sockets at the same instant, on two cores. `delay_a` and `delay_b` are turns of
 * an empty loop, because the two ways of the kernel to a socket's end are not equally long. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_int ready, go;

struct job {
  int fd, core;
  long delay;
};

static void stay_on(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof(set), &set); /* a machine with one core has the race, too, if seldom */
}

static void *run(void *argument) {
  struct job *job = argument;
  stay_on(job->core);
  atomic_fetch_add(&ready, 1);
  while (!atomic_load(&go))
    if (atomic_load(&ready) == 2)
      atomic_store(&go, 1);
  for (volatile long turn = 0; turn < job->delay; turn++)
    ;
  close(job->fd);
  return 0;
}

int close_both(int a, int b, long delay_a, long delay_b) {
  struct job jobs[2] = {{a, 0, delay_a}, {b, 1, delay_b}};
  pthread_t threads[2];
  ready = go = 0;
  for (int i = 0; i < 2; i++)
    if (pthread_create(&threads[i], 0, run, &jobs[i]))
      return 1;
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], 0);
  return 0;
}
