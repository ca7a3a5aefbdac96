// One line per call, after the number of the rank, in the file that FAKE_LOG names. Ranks append to
// the same file: its order is that of the calls.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *rank_here(void) {
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (!rank) rank = getenv("PMI_RANK"); // MPICH
    return rank ? rank : "0";
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    char line[512];
    int n = snprintf(line, 64, "%s ", rank_here());
    va_list arguments;
    va_start(arguments, format);
    n += vsnprintf(line + n, sizeof line - n - 1, format, arguments);
    va_end(arguments);
    line[n++] = '\n';
    int file = open(getenv("FAKE_LOG"), O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (file < 0 || write(file, line, n) != n) abort();
    close(file);
}
