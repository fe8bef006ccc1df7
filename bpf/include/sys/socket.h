/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* linux-libc-dev's linux/if.h, which linux/icmp.h includes, wants struct sockaddr from the C library; here it is. */
#ifndef SOCKMESH_SYS_SOCKET_H
#define SOCKMESH_SYS_SOCKET_H

#include <linux/types.h>

struct sockaddr {
	__u16 sa_family;
	char sa_data[14];
};

#endif
