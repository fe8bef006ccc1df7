/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Empty on purpose: bcc compiles its own copy of this header into every program (/virtual/include/bcc/bpf.h), with
 * another include guard than linux-libc-dev's. Both together would declare every enum twice.
 */
