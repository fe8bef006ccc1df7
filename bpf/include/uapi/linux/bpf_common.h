/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Empty on purpose, like bpf.h beside it: bcc brings its own copy. */
