/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bcc's helpers.h includes it. No program of ours depends on the page size, so none is defined: using it is an error. */
