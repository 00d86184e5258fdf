/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/socket.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

int (*socket_fault)(enum socket_call call, size_t *limit);

/* True: the call is to fail, errno is set. */
static inline bool fault(enum socket_call call, size_t *limit)
{
    if (__builtin_expect(socket_fault == NULL, 1))
        return false;
    int error = socket_fault(call, limit);
    if (error == 0)
        return false;
    errno = error;
    return true;
}

static void set_error(char error[SOCKET_ERROR_SIZE], const char *what, const char *why)
{
    snprintf(error, SOCKET_ERROR_SIZE, "%s: %s", what, why);
}

static int listen_on(int fd, const struct sockaddr *address, socklen_t size, int backlog,
                     char error[SOCKET_ERROR_SIZE])
{
    if (bind(fd, address, size) != 0) {
        set_error(error, "bind", strerror(errno));
        return -1;
    }
    if (listen(fd, backlog) != 0) {
        set_error(error, "listen", strerror(errno));
        return -1;
    }
    return 0;
}

int socket_listen_tcp(const char *address, int port, int backlog, char error[SOCKET_ERROR_SIZE])
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    const char *node = address;
    if (strcmp(address, "*") == 0) {
        hints.ai_family = AF_INET;
        node = NULL;
    } else if (strcmp(address, "::*") == 0) {
        hints.ai_family = AF_INET6;
        node = NULL;
    }
    char service[16];
    snprintf(service, sizeof(service), "%d", port);
    struct addrinfo *found = NULL;
    int result = getaddrinfo(node, service, &hints, &found);
    if (result != 0) {
        set_error(error, address, gai_strerror(result));
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = -1, saved = EADDRNOTAVAIL;
    for (struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
        if (fd < 0) {
            saved = errno;
            set_error(error, "socket", strerror(saved));
            continue;
        }
        int on = 1;
        if (a->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (listen_on(fd, a->ai_addr, a->ai_addrlen, backlog, error) != 0) {
            saved = errno;
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    errno = saved;
    return fd;
}

bool socket_error_is_optional(int error_number)
{
    return error_number == EADDRNOTAVAIL || error_number == EAFNOSUPPORT ||
           error_number == ENOPROTOOPT || error_number == EPROTONOSUPPORT ||
           error_number == ESOCKTNOSUPPORT || error_number == EPFNOSUPPORT;
}

/* False: there is no such group. */
static bool find_group(const char *name, gid_t *id)
{
    char buffer[4096], *end;
    struct group entry, *found = NULL;
    unsigned long number = strtoul(name, &end, 10);
    if (name[0] >= '0' && name[0] <= '9' && *end == '\0' && number < (gid_t)-1) {
        *id = (gid_t)number;
        return true;
    }
    if (getgrnam_r(name, &entry, buffer, sizeof(buffer), &found) != 0 || found == NULL)
        return false;
    *id = found->gr_gid;
    return true;
}

int socket_listen_unix(const char *path, unsigned perm, const char *group, int backlog,
                       char error[SOCKET_ERROR_SIZE])
{
    gid_t gid = (gid_t)-1;
    if (group[0] != '\0' && !find_group(group, &gid)) {
        set_error(error, group, "there is no such group");
        errno = EINVAL;
        return -1;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        set_error(error, path, "the path of a Unix socket is too long");
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        set_error(error, "socket", strerror(errno));
        return -1;
    }
    /* From its first moment nobody may connect who should not: bind makes the file with these, less
     * the umask's; chmod then adds those. */
    if (perm != 0 && fchmod(fd, (mode_t)perm) != 0) {
        int saved = errno;
        set_error(error, "fchmod", strerror(saved));
        close(fd);
        errno = saved;
        return -1;
    }
    if (listen_on(fd, (struct sockaddr *)&address, sizeof(address), backlog, error) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    bool owned = gid == (gid_t)-1 || chown(path, (uid_t)-1, gid) == 0;
    if (!owned || (perm != 0 && chmod(path, (mode_t)perm) != 0)) {
        int saved = errno;
        set_error(error, owned ? "chmod" : "chown", strerror(saved));
        close(fd);
        unlink(path);
        errno = saved;
        return -1;
    }
    return fd;
}

void socket_unlink_unix(const char *path)
{
    unlink(path);
}

int socket_accept(int listener)
{
    size_t unused = 0;
    if (fault(SOCKET_CALL_ACCEPT, &unused))
        return -1;
    int fd;
    do
        fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

void socket_set_nodelay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void socket_set_delay(int fd)
{
    int on = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void socket_set_keepalive(int fd, int seconds)
{
    int on = seconds > 0;
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (!on)
        return;
    int step = seconds / 3 > 0 ? seconds / 3 : 1, count = 3;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &step, sizeof(step));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

int socket_wait(int fd, bool to_write, int timeout_ms)
{
    return socket_wait_any(&fd, 1, to_write, timeout_ms);
}

int socket_wait_any(const int *fds, size_t count, bool to_write, int timeout_ms)
{
    int64_t end = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
    struct pollfd p[SOCKET_WAIT_MOST];
    int n;
    if (count > SOCKET_WAIT_MOST)
        count = SOCKET_WAIT_MOST;
    for (size_t i = 0; i < count; i++)
        p[i] = (struct pollfd){.fd = fds[i], .events = to_write ? POLLOUT : POLLIN};
    while ((n = poll(p, count, timeout_ms)) < 0 && errno == EINTR) {
        int64_t left = (end - clock_monotonic_us() + 999) / 1000;
        timeout_ms = left > 0 ? (int)left : 0;
    }
    return n != 0;
}

/* The port is left to connect, which knows both ends: more connections than there are ports can
 * then come from one address. */
static bool bind_source(int fd, const struct addrinfo *source)
{
    int on = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return bind(fd, source->ai_addr, source->ai_addrlen) == 0;
}

/* One address. `source`: NULL: none. `end_us` by the monotonic clock. */
static int connect_to(const struct addrinfo *a, const struct addrinfo *source, int64_t end_us)
{
    if (source != NULL && source->ai_family != a->ai_family) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -1;
    bool bound = source == NULL || bind_source(fd, source);
    if (bound && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd;
    int error = errno;
    if (error == EINPROGRESS || error == EINTR) {
        int64_t left = (end_us - clock_monotonic_us() + 999) / 1000;
        socklen_t size = sizeof(error);
        if (left <= 0 || socket_wait(fd, true, (int)left) == 0)
            error = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
            error = errno;
        if (error == 0)
            return fd;
    }
    close(fd);
    errno = error;
    return -1;
}

int socket_connect_tcp(const char *host, int port, const char *source, int timeout_ms)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    char service[16];
    snprintf(service, sizeof(service), "%d", port);
    struct addrinfo *found = NULL, *from = NULL;
    if (source[0] != '\0') {
        const struct addrinfo numeric = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST};
        if (getaddrinfo(source, NULL, &numeric, &from) != 0) {
            errno = EADDRNOTAVAIL;
            return -1;
        }
    }
    if (getaddrinfo(host, service, &hints, &found) != 0) {
        if (from != NULL)
            freeaddrinfo(from);
        errno = EADDRNOTAVAIL;
        return -1;
    }
    int64_t end_us = clock_monotonic_us() + (int64_t)timeout_ms * 1000;
    int fd = -1, saved = EADDRNOTAVAIL;
    for (struct addrinfo *a = found; a != NULL && fd < 0; a = a->ai_next) {
        fd = connect_to(a, from, end_us);
        saved = errno;
    }
    freeaddrinfo(found);
    if (from != NULL)
        freeaddrinfo(from);
    errno = saved;
    return fd;
}

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage storage;
};

static void format_name(const union address *a, bool known, char name[SOCKET_NAME_SIZE])
{
    char text[INET6_ADDRSTRLEN];
    snprintf(name, SOCKET_NAME_SIZE, "?:0");
    if (!known)
        return;
    if (a->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &a->v4.sin_addr, text, sizeof(text));
        snprintf(name, SOCKET_NAME_SIZE, "%s:%d", text, ntohs(a->v4.sin_port));
    } else if (a->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &a->v6.sin6_addr, text, sizeof(text));
        snprintf(name, SOCKET_NAME_SIZE, "[%s]:%d", text, ntohs(a->v6.sin6_port));
    } else if (a->any.sa_family == AF_UNIX) {
        snprintf(name, SOCKET_NAME_SIZE, "%s:0", a->local.sun_path);
    }
}

static bool get_local(int fd, union address *a)
{
    socklen_t size = sizeof(*a);
    memset(a, 0, sizeof(*a));
    return getsockname(fd, &a->any, &size) == 0;
}

static bool get_peer(int fd, union address *a)
{
    socklen_t size = sizeof(*a);
    memset(a, 0, sizeof(*a));
    return getpeername(fd, &a->any, &size) == 0;
}

void socket_peer_name(int fd, char name[SOCKET_NAME_SIZE])
{
    union address a;
    bool known = get_peer(fd, &a);
    /* The client's end of a Unix socket has no path: it is named by the server's. */
    if (known && a.any.sa_family == AF_UNIX)
        known = get_local(fd, &a);
    format_name(&a, known, name);
}

void socket_local_name(int fd, char name[SOCKET_NAME_SIZE])
{
    union address a;
    bool known = get_local(fd, &a);
    format_name(&a, known, name);
}

bool socket_is_unix(int fd)
{
    union address a;
    return get_local(fd, &a) && a.any.sa_family == AF_UNIX;
}

bool socket_peer_is_local(int fd)
{
    union address a;
    if (!get_peer(fd, &a))
        return false;
    switch (a.any.sa_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr) ||
               (IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr) && a.v6.sin6_addr.s6_addr[12] == 127);
    default:
        return false;
    }
}

ssize_t socket_read(int fd, void *data, size_t size)
{
    if (fault(SOCKET_CALL_READ, &size))
        return -1;
    ssize_t n;
    do
        n = recv(fd, data, size, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

static void shorten(struct iovec *vectors, int count, size_t limit)
{
    for (int i = 0; i < count; i++) {
        if (vectors[i].iov_len > limit)
            vectors[i].iov_len = limit;
        limit -= vectors[i].iov_len;
    }
}

/* Whether the fault hook lets a vectored call happen; the vectors are shortened as it says. */
static bool prepare(enum socket_call call, struct iovec *vectors, int count)
{
    if (__builtin_expect(socket_fault == NULL, 1))
        return true;
    size_t limit = SIZE_MAX;
    if (fault(call, &limit))
        return false;
    shorten(vectors, count, limit);
    return true;
}

ssize_t socket_readv(int fd, struct iovec *vectors, int count)
{
    if (!prepare(SOCKET_CALL_READ, vectors, count))
        return -1;
    ssize_t n;
    do
        n = readv(fd, vectors, count);
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t socket_write(int fd, const void *data, size_t size)
{
    if (fault(SOCKET_CALL_WRITE, &size))
        return -1;
    ssize_t n;
    do
        n = send(fd, data, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t socket_writev(int fd, struct iovec *vectors, int count)
{
    if (!prepare(SOCKET_CALL_WRITE, vectors, count))
        return -1;
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
    ssize_t n;
    do
        n = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

int socket_duplicate(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

void socket_shut_down(int fd)
{
    shutdown(fd, SHUT_RDWR);
}

void socket_close(int fd)
{
    close(fd);
}

int epoll_open(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) {
        perror("epoll_create1");
        abort();
    }
    return fd;
}

bool epoll_add(int epoll, int fd, uint32_t events, void *data)
{
    struct epoll_event e = {.events = events, .data.ptr = data};
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

void epoll_change(int epoll, int fd, uint32_t events, void *data)
{
    struct epoll_event e = {.events = events, .data.ptr = data};
    int result = epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e);
    assert(result == 0);
    (void)result;
}

void epoll_remove(int epoll, int fd)
{
    epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
}

int epoll_wait_for(int epoll, struct epoll_event *events, int max, int timeout_ms)
{
    int n = epoll_wait(epoll, events, max, timeout_ms);
    return n < 0 ? 0 : n;
}

int eventfd_open(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        perror("eventfd");
        abort();
    }
    return fd;
}

void eventfd_signal(int fd)
{
    uint64_t one = 1;
    /* It can only fail when the counter is full, and then the other side is awake already. */
    ssize_t n = write(fd, &one, sizeof(one));
    (void)n;
}

void eventfd_reset(int fd)
{
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));
    (void)n;
}

size_t descriptor_limit_raise(size_t want)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    if (limit.rlim_cur >= want)
        return (size_t)limit.rlim_cur;
    rlim_t before = limit.rlim_cur, most = limit.rlim_max;
    limit.rlim_cur = want;
    limit.rlim_max = most > want ? most : want;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return want;
    limit.rlim_cur = most;
    limit.rlim_max = most;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? (size_t)most : (size_t)before;
}
