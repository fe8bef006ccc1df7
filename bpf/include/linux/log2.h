/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc's helpers.h includes it for kernel programs that use ilog2(); bcc brings its own bpf_log2(). */
