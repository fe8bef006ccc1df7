/* Gives every second request of h2load a fresh W3C `traceparent`; loaded into it with LD_PRELOAD.
 *
 * h2load sends the same headers with all requests, and a proxy could then remember a whole header block instead of
 * looking at it. So the call by which h2load hands a request to libnghttp2 gets one header more, every second time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* nghttp2_nv, as it has been since nghttp2 1.0: its header files are not needed for this. */
struct field {
	const uint8_t *name, *value;
	size_t name_length, value_length;
	uint8_t flags;
};
typedef int32_t submit(void *session, const void *priority, const struct field *, size_t, const void *body, void *user);

enum { MOST = 62, LENGTH = 55 };
static atomic_ulong all, fresh;
static _Thread_local uint64_t state;
static _Thread_local unsigned turn;

static uint64_t next(void)
{
	while (state == 0)
		if (getrandom(&state, sizeof(state), 0) != sizeof(state))
			abort();
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static int32_t pass(const char *symbol, void *session, const void *priority, const struct field *fields, size_t count,
		    const void *body, void *user)
{
	static submit *_Atomic real;
	submit *call = real;
	if (call == NULL) {
		call = (submit *)dlsym(RTLD_NEXT, symbol);
		if (call == NULL)
			abort();
		real = call;
	}
	atomic_fetch_add(&all, 1);
	if (++turn % 2 || count > MOST)
		return call(session, priority, fields, count, body, user);
	static const char digits[] = "0123456789abcdef";
	char text[LENGTH];
	memcpy(text, "00-", 3);
	for (int i = 3, bits = 0, left = 0; i < LENGTH - 3; i++) {
		static _Thread_local uint64_t random;
		if (i == 35)
			continue;
		if (left == 0) {
			random = next();
			left = 16;
		}
		bits = random & 15;
		random >>= 4;
		left--;
		text[i] = digits[bits];
	}
	text[35] = '-';
	memcpy(text + LENGTH - 3, "-01", 3);
	struct field more[MOST + 1];
	memcpy(more, fields, count * sizeof(*fields));
	/* No flags: the library makes copies, so the text may live here. */
	more[count] = (struct field){ (const uint8_t *)"traceparent", (const uint8_t *)text, 11, LENGTH, 0 };
	atomic_fetch_add(&fresh, 1);
	return call(session, priority, more, count + 1, body, user);
}

int32_t nghttp2_submit_request(void *s, const void *p, const struct field *f, size_t n, const void *b, void *u);
int32_t nghttp2_submit_request(void *s, const void *p, const struct field *f, size_t n, const void *b, void *u)
{
	return pass("nghttp2_submit_request", s, p, f, n, b, u);
}

/* What h2load calls from nghttp2 1.61 on. */
int32_t nghttp2_submit_request2(void *s, const void *p, const struct field *f, size_t n, const void *b, void *u);
int32_t nghttp2_submit_request2(void *s, const void *p, const struct field *f, size_t n, const void *b, void *u)
{
	return pass("nghttp2_submit_request2", s, p, f, n, b, u);
}

__attribute__((destructor)) static void report(void)
{
	fprintf(stderr, "traceparent: %lu of %lu\n", atomic_load(&fresh), atomic_load(&all));
}
