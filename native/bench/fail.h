/*
 * fail.h --
 *	How the programs of "tclchan bench" end when something goes wrong.
 */

#ifndef BENCH_FAIL_H
#define BENCH_FAIL_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void __attribute__((noreturn, format(printf, 1, 2)))
Fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

#endif /* BENCH_FAIL_H */
