/* Load for the front of a model's server that costs so little that the front is what is measured.
 *
 *     load_generator [-c CONNECTIONS] [-s SECONDS] [-w WARM_SECONDS] [-r RATE] [-g SECONDS] [-n REQUESTS] [-l LEDGER] [-p] [-k] [-b] PORT REQUEST…
 *
 * Each REQUEST is a file with a whole HTTP request; they are sent in turn, one at a time on each connection, kept alive. Without -r the
 * next goes out when the last was answered; with it RATE a second go out, and latency counts from when each was due, so that a stall is
 * not hidden by the requests that it kept from being sent. An answer that is not whole when its connection ends is an error, as its
 * client sees it; a stream that ends as HTTP wants it without its [DONE] is counted apart: its client would not see it.
 * -g: the first requests are spread over so many seconds, so that streams do not begin and end together.
 * -p: the contents of events are the clock of dummy_backend: how long each was under way, and by how much the gaps between them changed.
 * -n: stop after so many whole answers, -k: connect again where a connection is refused. -l: a line "x-request-id status" for each
 * answer that came whole.
 * -b: look again instead of sleeping, so that its core never idles: on a virtual machine to wake a core costs the front more than to send.
 * Prints one JSON object; microseconds. One thread, epoll. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define READ (64 << 10)
#define TAIL 14 /* "data: [DONE]\n\n" */

struct request { char *data; size_t size; };

struct connection {
    int fd, busy, status, events, chunked, chunk_state, closes, at;
    int64_t due, stamp, arrived, retry;
    long left; /* of the body, or of the chunk */
    size_t head_size, size, line_size;
    char head[4096], tail[TAIL], id[96], line[1024];
};

struct samples { uint32_t *values; size_t count, room; }; /* tenths of a microsecond */

static int loop_fd, paced, again, busy, port, kinds;
static struct request *requests;
static struct samples whole, first, transit, changed;
static int64_t warm_until, end_at, step, next_due;
static uint64_t sent, answers, refused, broken, unconnected, silent, bytes, wanted;
static size_t least = SIZE_MAX, most;
static FILE *ledger;

static int64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void add(struct samples *to, int64_t ns) {
    if (to->count == to->room) {
        to->room = to->room ? to->room * 2 : 1 << 16;
        to->values = realloc(to->values, to->room * sizeof *to->values);
        if (!to->values) abort();
    }
    to->values[to->count++] = ns < 0 ? 0 : ns > 400000000000LL ? 4000000000U : (uint32_t)(ns / 100);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void tell(const char *name, struct samples *of) {
    qsort(of->values, of->count, sizeof *of->values, ascending);
    printf(", \"%s\": {\"count\": %zu", name, of->count);
    const double ranks[] = {0.5, 0.95, 0.99, 1.0};
    const char *names[] = {"p50", "p95", "p99", "max"};
    for (int index = 0; of->count && index < 4; index++)
        printf(", \"%s\": %.1f", names[index], of->values[(size_t)(ranks[index] * (double)(of->count - 1))] / 10.0);
    printf("}");
}

static void open_one(struct connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->busy = 0;
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address)) { /* loopback: at once or not at all */
        unconnected++;
        if (fd >= 0) close(fd);
        c->fd = -1;
        c->retry = now_ns() + 5000000;
        if (!again) perror("load_generator: connect"), exit(1);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = fd;
    struct epoll_event wants = {EPOLLIN, {.ptr = c}};
    epoll_ctl(loop_fd, EPOLL_CTL_ADD, fd, &wants);
}

static void lost(struct connection *c) {
    if (c->busy) broken++;
    close(c->fd);
    open_one(c);
}

static void ask(struct connection *c, int64_t due) {
    struct request *what = &requests[sent++ % (uint64_t)kinds];
    c->busy = 1;
    c->due = due;
    c->head_size = c->size = c->line_size = 0;
    c->status = c->events = c->chunked = c->chunk_state = c->closes = c->at = 0;
    c->stamp = c->left = 0;
    c->id[0] = 0;
    memset(c->tail, 0, TAIL);
    if (send(c->fd, what->data, what->size, MSG_NOSIGNAL) != (ssize_t)what->size) lost(c);
}

static void event(struct connection *c, int64_t now) { /* a line of a paced stream */
    char *found = memmem(c->line, c->line_size, "\"content\":\"", 11);
    if (!found || found[11] < '0' || found[11] > '9') return;
    int64_t stamp = strtoll(found + 11, NULL, 10);
    if (now >= warm_until) {
        add(&transit, now - stamp);
        if (c->stamp) add(&changed, llabs((now - c->arrived) - (stamp - c->stamp)));
    }
    c->stamp = stamp;
    c->arrived = now;
}

static void body(struct connection *c, const char *data, size_t size, int64_t now) {
    if (!c->size && c->events && now >= warm_until) add(&first, now - c->due);
    c->size += size;
    if (!c->events) return;
    if (size >= TAIL) memcpy(c->tail, data + size - TAIL, TAIL);
    else memmove(c->tail, c->tail + size, TAIL - size), memcpy(c->tail + TAIL - size, data, size);
    if (!paced) return;
    for (size_t index = 0; index < size; index++) {
        if (data[index] == '\n') event(c, now), c->line_size = 0;
        else if (c->line_size < sizeof c->line - 1) c->line[c->line_size++] = data[index], c->line[c->line_size] = 0;
    }
}

static void answered(struct connection *c, int64_t now) {
    answers++;
    if (c->status != 200) refused++;
    else if (c->events && memcmp(c->tail, "data: [DONE]\n\n", TAIL)) silent++;
    if (ledger) fprintf(ledger, "%s %d\n", c->id, c->status);
    if (c->status == 200 && now >= warm_until) {
        add(&whole, now - c->due);
        bytes += c->size;
        if (c->size < least) least = c->size;
        if (c->size > most) most = c->size;
    }
    c->busy = 0;
    if (c->closes) lost(c);
    if (c->fd >= 0 && !step && now < end_at && (!wanted || answers < wanted)) ask(c, now);
}

static int head(struct connection *c) { /* 0 when it is not HTTP */
    c->head[c->head_size] = 0;
    if (strncmp(c->head, "HTTP/1.1 ", 9)) return 0;
    c->status = atoi(c->head + 9);
    char *length = strcasestr(c->head, "\r\ncontent-length:"), *id = strcasestr(c->head, "\r\nx-request-id: ");
    c->left = length ? atol(length + 17) : 0;
    c->chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked") != NULL;
    c->events = strcasestr(c->head, "\r\ncontent-type: text/event-stream") != NULL;
    c->closes = strcasestr(c->head, "\r\nconnection: close") != NULL;
    if (id) sscanf(id + 16, "%90[^\r]", c->id);
    return length || c->chunked;
}

/* Take what was read; returns 0 when it is not HTTP. chunk_state: 0 in a length, 1 in data, 2 after data, 3 after the last length. */
static int take(struct connection *c, const char *data, size_t size, int64_t now) {
    const char *end = data + size;
    while (data < end && c->busy) {
        if (!c->status) {
            if (c->head_size == sizeof c->head - 1) return 0;
            c->head[c->head_size++] = *data++;
            if (c->head_size > 4 && !memcmp(c->head + c->head_size - 4, "\r\n\r\n", 4)) {
                if (!head(c)) return 0;
                if (!c->chunked && !c->left) answered(c, now);
            }
        } else if (!c->chunked || c->chunk_state == 1) {
            size_t part = (size_t)(end - data) < (size_t)c->left ? (size_t)(end - data) : (size_t)c->left;
            body(c, data, part, now);
            data += part;
            c->left -= (long)part;
            if (!c->left && c->chunked) c->chunk_state = 2;
            else if (!c->left) return answered(c, now), data == end;
        } else if (c->chunk_state == 0) {
            char byte = *data++;
            if (byte == '\n') c->chunk_state = c->left ? 1 : 3;
            else if (byte != '\r') {
                const char *digits = "0123456789abcdef", *found = strchr(digits, byte | 32);
                if (!byte || !found) return 0;
                c->left = c->left * 16 + (found - digits);
            }
        } else if (*data++ == '\n') {
            if (c->chunk_state == 3) return answered(c, now), data == end;
            c->chunk_state = 0;
        }
    }
    return 1;
}

static void reads(struct connection *c) {
    static char data[READ];
    ssize_t got = recv(c->fd, data, READ, MSG_DONTWAIT);
    if (got > 0) {
        if (!take(c, data, (size_t)got, now_ns())) lost(c);
    } else if (got == 0 || errno != EAGAIN) {
        lost(c);
    }
}

static void load(const char *path, struct request *into) {
    FILE *file = fopen(path, "rb");
    if (!file) perror(path), exit(1);
    into->data = malloc(1 << 20);
    into->size = fread(into->data, 1, 1 << 20, file);
    fclose(file);
}

int main(int count, char **words) {
    int connections = 1, option;
    double seconds = 1, warm = 0, rate = 0, spread = 0;
    while ((option = getopt(count, words, "c:s:w:r:g:n:l:pkb")) != -1) {
        if (option == 'c') connections = atoi(optarg);
        else if (option == 's') seconds = atof(optarg);
        else if (option == 'w') warm = atof(optarg);
        else if (option == 'r') rate = atof(optarg);
        else if (option == 'g') spread = atof(optarg);
        else if (option == 'n') wanted = strtoull(optarg, NULL, 10);
        else if (option == 'p') paced = 1;
        else if (option == 'k') again = 1;
        else if (option == 'b') busy = 1;
        else if (option == 'l') ledger = fopen(optarg, "a");
        else return 2;
    }
    if (count - optind < 2 || connections < 1) return fprintf(stderr, "usage: see the head of load_generator.c\n"), 2;
    port = atoi(words[optind]);
    kinds = count - optind - 1;
    requests = calloc((size_t)kinds, sizeof *requests);
    for (int index = 0; index < kinds; index++) load(words[optind + 1 + index], &requests[index]);
    loop_fd = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    for (int index = 0; index < connections; index++) open_one(&all[index]);
    int64_t began = now_ns();
    warm_until = began + (int64_t)(warm * 1e9);
    end_at = warm_until + (int64_t)(seconds * 1e9);
    step = rate > 0 ? (int64_t)(1e9 / rate) : 0;
    next_due = began;
    int begun = 0;
    struct epoll_event ready[256];
    int turn = 0;
    for (;;) {
        int64_t now = now_ns();
        if (now >= end_at || (wanted && answers >= wanted)) {
            int under_way = 0;
            for (int index = 0; index < connections; index++) under_way += all[index].busy;
            if (!under_way || now >= end_at + 30000000000LL) break;
        } else {
            for (; !step && begun < connections && now - began >= (int64_t)(spread * 1e9) / connections * begun; begun++)
                if (all[begun].fd >= 0) ask(&all[begun], now);
            for (; step && next_due <= now; next_due += step) {
                int tried = 0;
                while (tried++ < connections && (all[turn].busy || all[turn].fd < 0)) turn = (turn + 1) % connections;
                if (all[turn].busy || all[turn].fd < 0) break;
                ask(&all[turn], next_due);
            }
        }
        for (int index = 0; again && index < begun; index++) {
            struct connection *c = &all[index];
            if (c->fd < 0 && c->retry <= now && now < end_at) {
                open_one(c);
            }
            if (c->fd >= 0 && !c->busy && !step && now < end_at && (!wanted || answers < wanted)) ask(c, now);
        }
        int64_t patience = step ? next_due - now : 20000000;
        if (patience < 0 || patience > 20000000) patience = patience < 0 && step ? 50000 : 20000000;
        if ((again || begun < connections) && patience > 2000000) patience = 2000000;
        struct timespec until = {0, busy ? 0 : patience};
        if (busy) sched_yield();
        int found = epoll_pwait2(loop_fd, ready, 256, &until, NULL);
        for (int index = 0; index < found; index++) reads(ready[index].data.ptr);
    }
    int64_t measured = now_ns() - warm_until;
    int unanswered = 0;
    for (int index = 0; index < connections; index++) unanswered += all[index].busy;
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"seconds\": %.3f, \"answers\": %lu, \"refused\": %lu, \"broken\": %lu, \"unconnected\": %lu, \"silently_cut\": %lu, "
           "\"unanswered\": %d, \"bytes\": %lu, \"least_bytes\": %zu, \"most_bytes\": %zu, \"cpu_seconds\": %.3f",
           (double)measured / 1e9, answers, refused, broken, unconnected, silent, unanswered, bytes, whole.count ? least : 0, most,
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    tell("latency", &whole);
    tell("first", &first);
    tell("transit", &transit);
    tell("gap_change", &changed);
    printf("}\n");
    if (ledger) fclose(ledger);
    return 0;
}
