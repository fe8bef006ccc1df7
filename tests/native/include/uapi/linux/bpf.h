/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The programs' header tree, as an ordinary compiler needs it. */
#include <linux/bpf.h>
