/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * bcc includes this file before every program (-include): in a kernel tree it turns .config into CONFIG_ macros.
 * Ours has no .config behind it. bcc's helpers.h needs the kernel's short type names, which come from here too,
 * because the UAPI headers only declare the __u32 kind.
 */
#ifndef SOCKMESH_LINUX_KCONFIG_H
#define SOCKMESH_LINUX_KCONFIG_H

#define CONFIG_BPF_SYSCALL 1 /* without it bcc's helpers.h hides the map types */

#include <linux/types.h>

typedef __s8 s8;
typedef __u8 u8;
typedef __s16 s16;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;
typedef _Bool bool;
typedef __SIZE_TYPE__ size_t;
typedef unsigned long uintptr_t;
typedef long long loff_t;

#define true 1
#define false 0

#endif
