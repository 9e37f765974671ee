/* Loaded before the C library: every TCP connection that this process opens to a loopback address leaves from the address
 * in POD_ADDRESS, as connections leave from a pod's address in a pod network. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

int connect(int fd, const struct sockaddr *to, socklen_t length)
{
    static int (*next)(int, const struct sockaddr *, socklen_t);
    const char *address = getenv("POD_ADDRESS");
    struct sockaddr_in own = {.sin_family = AF_INET}, bound;
    socklen_t size = sizeof bound;

    if (!next)
        next = (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "connect");
    if (address && to->sa_family == AF_INET && length >= sizeof own &&
        ntohl(((const struct sockaddr_in *)to)->sin_addr.s_addr) >> 24 == 127 &&
        inet_pton(AF_INET, address, &own.sin_addr) == 1 && getsockname(fd, (struct sockaddr *)&bound, &size) == 0 &&
        bound.sin_family == AF_INET && bound.sin_port == 0)
        bind(fd, (struct sockaddr *)&own, sizeof own);
    return next(fd, to, length);
}
