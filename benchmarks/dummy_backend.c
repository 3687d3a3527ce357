/* A model's server that costs almost nothing: what is measured in front of it is the front.
 *
 *     dummy_backend TOKENS RATE      prints its port on the first line; serves on loopback until it is killed
 *
 * Any POST is a completion: JSON, or, where its body says "stream":true, events in the shape of OpenAI's chat stream, one HTTP chunk an
 * event, TOKENS of them with content. RATE 0 writes a stream at once; else one token each 1/RATE seconds, whose content is the
 * monotonic clock in nanoseconds when it was written, so that a reader on this machine knows how long it was under way. A usage event
 * comes where the body says "include_usage":true. Any GET is {"status":"ok"}. One thread, epoll, keep-alive. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ID "{\"id\":\"chatcmpl-dummy\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"dummy\","
#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define HEALTHY "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}"
#define END "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

struct connection {
    int fd, writing, streaming, sent, usage;
    int64_t due;
    char *in, *out;
    size_t in_size, in_room, out_size, out_room, out_at;
    struct connection *next;
};

static int loop_fd, tokens;
static int64_t interval;
static char json_answer[1024];
static size_t json_size;
static char *burst[2];
static size_t burst_size[2];
static struct connection *first, *last; /* those that wait for their next token, the soonest first: all have one interval */

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void room(char **buffer, size_t *has, size_t wanted) {
    if (wanted <= *has) return;
    while (*has < wanted) *has = *has ? *has * 2 : 2048;
    *buffer = realloc(*buffer, *has);
    if (!*buffer) abort();
}

static void put(struct connection *c, const char *data, size_t size) {
    room(&c->out, &c->out_room, c->out_size + size);
    memcpy(c->out + c->out_size, data, size);
    c->out_size += size;
}

static size_t event(char *to, const char *choices) { /* one event as one chunk */
    char data[512];
    int size = snprintf(data, sizeof data, "data: " ID "%s}\n\n", choices);
    return (size_t)sprintf(to, "%x\r\n%s\r\n", size, data);
}

static size_t content(char *to, const char *text) {
    char choices[256];
    snprintf(choices, sizeof choices, "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"finish_reason\":null}]", text);
    return event(to, choices);
}

static size_t ending(char *to, int usage) {
    char text[256];
    size_t size = event(to, "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]");
    if (usage) {
        snprintf(text, sizeof text, "\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":%d,\"total_tokens\":%d}", tokens, tokens + 12);
        size += event(to + size, text);
    }
    memcpy(to + size, END, sizeof END - 1);
    return size + sizeof END - 1;
}

static size_t beginning(char *to) {
    memcpy(to, STREAM_HEAD, sizeof STREAM_HEAD - 1);
    return sizeof STREAM_HEAD - 1 + event(to + sizeof STREAM_HEAD - 1, "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]");
}

static void prepare(void) {
    char body[512];
    int size = snprintf(body, sizeof body,
                        "{\"id\":\"chatcmpl-dummy\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"dummy\",\"choices\":[{\"index\":0,\"message\":"
                        "{\"role\":\"assistant\",\"content\":\"The gateway is measured, not the model.\"},\"finish_reason\":\"stop\"}],"
                        "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":8,\"total_tokens\":20}}");
    json_size = (size_t)sprintf(json_answer, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, body);
    for (int usage = 0; usage < 2; usage++) {
        char *at = burst[usage] = malloc((size_t)(tokens + 8) * 512);
        at += beginning(at);
        for (int token = 0; token < tokens; token++) at += content(at, " token");
        at += ending(at, usage);
        burst_size[usage] = (size_t)(at - burst[usage]);
    }
}

static void forget(struct connection *c) { /* out of the row of those that wait */
    for (struct connection **at = &first, *before = NULL; *at; before = *at, at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            if (last == c) last = before;
            return;
        }
}

static void finish(struct connection *c) {
    if (c->streaming) forget(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void wait_for_token(struct connection *c) {
    c->next = NULL;
    if (last) last->next = c; else first = c;
    last = c;
}

static int flush(struct connection *c) { /* 0 when the connection is gone */
    while (c->out_at < c->out_size) {
        ssize_t written = send(c->fd, c->out + c->out_at, c->out_size - c->out_at, MSG_NOSIGNAL);
        if (written < 0) {
            if (errno != EAGAIN) return 0;
            if (!c->writing) {
                struct epoll_event wants = {EPOLLIN | EPOLLOUT, {.ptr = c}};
                epoll_ctl(loop_fd, EPOLL_CTL_MOD, c->fd, &wants);
                c->writing = 1;
            }
            return 1;
        }
        c->out_at += (size_t)written;
    }
    c->out_at = c->out_size = 0;
    if (c->writing) {
        struct epoll_event wants = {EPOLLIN, {.ptr = c}};
        epoll_ctl(loop_fd, EPOLL_CTL_MOD, c->fd, &wants);
        c->writing = 0;
    }
    return 1;
}

static void token(struct connection *c) {
    char text[1024], stamp[32];
    snprintf(stamp, sizeof stamp, "%016lld", (long long)now_ns());
    put(c, text, content(text, stamp));
    c->due += interval;
    if (++c->sent == tokens) {
        put(c, text, ending(text, c->usage));
        c->streaming = 0;
    } else {
        wait_for_token(c);
    }
}

static void answer(struct connection *c, const char *head, const char *body, size_t size) {
    char text[1024];
    int usage = memmem(body, size, "\"include_usage\":true", 20) != NULL;
    if (!strncmp(head, "GET ", 4)) {
        put(c, HEALTHY, sizeof HEALTHY - 1);
    } else if (!memmem(body, size, "\"stream\":true", 13)) {
        put(c, json_answer, json_size);
    } else if (!interval) {
        put(c, burst[usage], burst_size[usage]);
    } else {
        put(c, text, beginning(text));
        c->streaming = 1;
        c->sent = 0;
        c->usage = usage;
        c->due = now_ns() + interval;
        wait_for_token(c);
    }
}

static int requests(struct connection *c) { /* answer what is whole; 0 when the connection is gone */
    size_t at = 0;
    while (!c->streaming) {
        c->in[c->in_size] = 0;
        char *head = c->in + at, *end = strstr(head, "\r\n\r\n");
        if (!end) break;
        *end = 0;
        char *length = strcasestr(head, "\r\ncontent-length:");
        size_t size = length ? strtoul(length + 17, NULL, 10) : 0, whole = (size_t)(end + 4 - head) + size;
        if (c->in_size - at < whole) {
            *end = '\r';
            break;
        }
        answer(c, head, end + 4, size);
        at += whole;
    }
    memmove(c->in, c->in + at, c->in_size - at);
    c->in_size -= at;
    return flush(c);
}

int main(int count, char **words) {
    if (count != 3) return fprintf(stderr, "usage: dummy_backend TOKENS RATE\n"), 2;
    tokens = atoi(words[1]);
    interval = atof(words[2]) > 0 ? (int64_t)(1e9 / atof(words[2])) : 0;
    prepare();
    int door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(door, (struct sockaddr *)&address, size) || listen(door, 4096) || getsockname(door, (struct sockaddr *)&address, &size))
        return perror("dummy_backend"), 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wants = {EPOLLIN, {.ptr = NULL}}, ready[256];
    epoll_ctl(loop_fd, EPOLL_CTL_ADD, door, &wants);
    for (;;) {
        int64_t left = first ? first->due - now_ns() : -1;
        struct timespec patience = {left / 1000000000, left % 1000000000}, *until = first ? &patience : NULL;
        if (first && left < 0) patience = (struct timespec){0, 0};
        int found = epoll_pwait2(loop_fd, ready, 256, until, NULL);
        for (int index = 0; index < found; index++) {
            struct connection *c = ready[index].data.ptr;
            if (!c) {
                int fd = accept4(door, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (fd < 0) continue;
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                c = calloc(1, sizeof *c);
                c->fd = fd;
                wants.data.ptr = c;
                epoll_ctl(loop_fd, EPOLL_CTL_ADD, fd, &wants);
                continue;
            }
            int alive = 1;
            if (ready[index].events & EPOLLOUT) alive = flush(c);
            if (alive && ready[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                room(&c->in, &c->in_room, c->in_size + 16385);
                ssize_t got = read(c->fd, c->in + c->in_size, 16384);
                if (got > 0) c->in_size += (size_t)got, alive = requests(c);
                else alive = got < 0 && errno == EAGAIN;
            }
            if (!alive) finish(c);
        }
        for (int64_t now = now_ns(); first && first->due <= now;) {
            struct connection *c = first;
            first = c->next;
            if (!first) last = NULL;
            token(c);
            if (!(c->streaming ? flush(c) : requests(c))) finish(c);
        }
    }
}
