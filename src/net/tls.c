/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "os/socket.h"

/* A session of OpenSSL 3.0 without its buffers, which are there while bytes move only; measured. */
#define SESSION_MEMORY 15000
/* What a record holds at most: what stands behind it is not begun before it is written. */
#define RECORD_MAX 16384

struct tls_context {
    SSL_CTX *ssl;
    bool client;
    unsigned owners; /* atomic */
};

struct tls {
    SSL *ssl;
    int fd;
    pthread_mutex_t lock; /* of all that follows, and of what OpenSSL has */
    unsigned owners;      /* atomic */
    bool freed;           /* by its owner: the socket is closed, or another one's by now */
    bool read_wants_write, write_wants_write;
    size_t unfinished; /* what tls_write was offered when it returned EAGAIN; 0: nothing */
    int error_number; /* what the socket said in the last call, 0: nothing */
    bool drained;     /* the socket had no more, in this round of reading */
    bool at_end;      /* the peer has closed its side */
    bool failed;
    char error[256];
};

/* --- The socket as OpenSSL sees it --- */

static int bio_read(BIO *bio, char *data, int size)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->drained) {
        BIO_set_retry_read(bio);
        return -1;
    }
    ssize_t n = socket_read(t->fd, data, (size_t)size);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_read(bio);
    else if (n < 0)
        t->error_number = errno;
    t->drained = n > 0 && n < size;
    t->at_end = n == 0;
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = socket_write(t->fd, data, (size_t)size);
    if (n < 0 && errno == EAGAIN)
        BIO_set_retry_write(bio);
    else if (n < 0)
        t->error_number = errno;
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    if (command == BIO_CTRL_EOF)
        return ((struct tls *)BIO_get_data(bio))->at_end;
    return command == BIO_CTRL_FLUSH;
}

/* Of all sessions, and never freed: they may outlive their context. */
static BIO_METHOD *socket_method;

static void make_socket_method(void)
{
    socket_method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "socket");
    if (socket_method == NULL)
        return;
    BIO_meth_set_read(socket_method, bio_read);
    BIO_meth_set_write(socket_method, bio_write);
    BIO_meth_set_ctrl(socket_method, bio_ctrl);
}

/* --- Contexts --- */

/* "what: why", or what alone when OpenSSL has nothing to say. */
static bool fail(char error[TLS_ERROR_SIZE], const char *what, const char *which)
{
    char why[200] = "";
    unsigned long code = ERR_peek_error();
    if (code != 0)
        ERR_error_string_n(code, why, sizeof(why));
    ERR_clear_error();
    snprintf(error, TLS_ERROR_SIZE, "%s%.200s%s%s", what, which, why[0] != '\0' ? ": " : "", why);
    return false;
}

static bool set_protocols(SSL_CTX *ssl, const char *words, char error[TLS_ERROR_SIZE])
{
    static const struct {
        const char *name;
        uint64_t off;
    } protocols[] = {{"TLSv1", SSL_OP_NO_TLSv1},
                     {"TLSv1.1", SSL_OP_NO_TLSv1_1},
                     {"TLSv1.2", SSL_OP_NO_TLSv1_2},
                     {"TLSv1.3", SSL_OP_NO_TLSv1_3}};
    uint64_t off = 0;
    for (size_t i = 0; i < 4; i++)
        off |= protocols[i].off;
    bool any = false;
    for (const char *at = words; *at != '\0';) {
        size_t size = strcspn(at, " ");
        bool known = size == 0;
        for (size_t i = 0; i < 4; i++) {
            if (strlen(protocols[i].name) == size &&
                strncasecmp(at, protocols[i].name, size) == 0) {
                off &= ~protocols[i].off;
                known = any = true;
            }
        }
        if (!known)
            return fail(error,
                        "Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', "
                        "'TLSv1.2' and 'TLSv1.3'.",
                        "");
        at += size + (at[size] == ' ');
    }
    if (!any)
        off = SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1;
    SSL_CTX_set_options(ssl, off);
    return true;
}

static bool set_dh_params(SSL_CTX *ssl, const char *path, char error[TLS_ERROR_SIZE])
{
    EVP_PKEY *key = NULL;
    BIO *file = BIO_new_file(path, "r");
    OSSL_DECODER_CTX *decoder = OSSL_DECODER_CTX_new_for_pkey(
        &key, "PEM", NULL, NULL, OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS, NULL, NULL);
    bool ok = file != NULL && decoder != NULL && OSSL_DECODER_from_bio(decoder, file) == 1 &&
              (EVP_PKEY_is_a(key, "DH") || EVP_PKEY_is_a(key, "DHX")) &&
              SSL_CTX_set0_tmp_dh_pkey(ssl, key) == 1;
    if (!ok)
        fail(error, "Failed to load DH parameters: ", path);
    if (!ok)
        EVP_PKEY_free(key);
    OSSL_DECODER_CTX_free(decoder);
    BIO_free(file);
    return ok;
}

/* Without a password the key must not need one: OpenSSL would ask the terminal. */
static int give_password(char *out, int size, int writing, void *ctx)
{
    const char *password = ctx;
    (void)writing;
    size_t length = strlen(password);
    if (length > (size_t)size)
        return -1;
    memcpy(out, password, length);
    return (int)length;
}

static bool set_certificates(SSL_CTX *ssl, const struct tls_options *o, char error[TLS_ERROR_SIZE])
{
    if (o->cert_file[0] == '\0')
        return fail(error, "No tls-cert-file configured!", "");
    if (o->key_file[0] == '\0')
        return fail(error, "No tls-key-file configured!", "");
    if ((o->client || o->auth_clients != TLS_CLIENT_AUTH_NO) && o->ca_cert_file[0] == '\0' &&
        o->ca_cert_dir[0] == '\0')
        return fail(error,
                    "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when "
                    "tls-cluster, tls-replication or tls-auth-clients are enabled!",
                    "");
    SSL_CTX_set_default_passwd_cb(ssl, give_password);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, (void *)(uintptr_t)o->key_file_pass);
    if (SSL_CTX_use_certificate_chain_file(ssl, o->cert_file) != 1)
        return fail(error, "Failed to load certificate: ", o->cert_file);
    bool key = SSL_CTX_use_PrivateKey_file(ssl, o->key_file, SSL_FILETYPE_PEM) == 1;
    /* The text is the caller's. */
    SSL_CTX_set_default_passwd_cb_userdata(ssl, (void *)(uintptr_t) "");
    if (!key)
        return fail(error, "Failed to load private key: ", o->key_file);
    if (SSL_CTX_check_private_key(ssl) != 1)
        return fail(error, "The private key is not the certificate's: ", o->key_file);
    const char *file = o->ca_cert_file[0] != '\0' ? o->ca_cert_file : NULL;
    const char *dir = o->ca_cert_dir[0] != '\0' ? o->ca_cert_dir : NULL;
    if ((file != NULL || dir != NULL) && SSL_CTX_load_verify_locations(ssl, file, dir) != 1)
        return fail(error, "Failed to configure CA certificate(s) file/directory: ",
                    file != NULL ? file : dir);
    if (file != NULL && !o->client && o->auth_clients != TLS_CLIENT_AUTH_NO) {
        /* Clients with several certificates choose by the names that the server sends. */
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(file);
        if (names == NULL)
            return fail(error, "Failed to configure CA certificate(s) file/directory: ", file);
        SSL_CTX_set_client_CA_list(ssl, names);
    }
    return true;
}

static void set_sessions(SSL_CTX *ssl, const struct tls_options *o)
{
    static const unsigned char id[] = "holdfast";
    SSL_CTX_set_session_id_context(ssl, id, sizeof(id) - 1);
    if (o->session_caching && !o->client) {
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_SERVER);
        SSL_CTX_sess_set_cache_size(ssl, (long)o->session_cache_size);
        SSL_CTX_set_timeout(ssl, (long)o->session_cache_timeout_s);
    } else {
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ssl, 0);
    }
}

/* Names of hosts, as certificates have them; OpenSSL compares them while it verifies. */
static bool set_peer_names(SSL_CTX *ssl, const char *names, char error[TLS_ERROR_SIZE])
{
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    while (*names != '\0') {
        size_t size = strcspn(names, " ");
        if (size != 0 && X509_VERIFY_PARAM_add1_host(param, names, size) != 1)
            return fail(error, "Failed to configure the peer's expected name: ", names);
        names += size + strspn(names + size, " ");
    }
    return true;
}

static bool configure(SSL_CTX *ssl, const struct tls_options *o, char error[TLS_ERROR_SIZE])
{
    /* A peer that closes without a goodbye is no error: what ends a request stands in the
     * request. */
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                 SSL_OP_SINGLE_DH_USE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (o->prefer_server_ciphers)
        SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* An idle connection has no buffers. */
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ssl, 1);
    if (!set_protocols(ssl, o->protocols, error) || !set_certificates(ssl, o, error))
        return false;
    if (o->ciphers[0] != '\0' && SSL_CTX_set_cipher_list(ssl, o->ciphers) != 1)
        return fail(error, "Failed to configure ciphers: ", o->ciphers);
    if (o->ciphersuites[0] != '\0' && SSL_CTX_set_ciphersuites(ssl, o->ciphersuites) != 1)
        return fail(error, "Failed to configure ciphersuites: ", o->ciphersuites);
    if (o->dh_params_file[0] != '\0' && !set_dh_params(ssl, o->dh_params_file, error))
        return false;
    int verify = SSL_VERIFY_NONE;
    if (o->client || o->auth_clients == TLS_CLIENT_AUTH_YES)
        verify = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    else if (o->auth_clients == TLS_CLIENT_AUTH_OPTIONAL)
        verify = SSL_VERIFY_PEER;
    SSL_CTX_set_verify(ssl, verify, NULL);
    set_sessions(ssl, o);
    return !o->client || set_peer_names(ssl, o->peer_names, error);
}

struct tls_context *tls_context_new(const struct tls_options *options, char error[TLS_ERROR_SIZE])
{
    struct tls_context *context = mem_zalloc(sizeof(*context));
    ERR_clear_error();
    context->client = options->client;
    context->owners = 1;
    context->ssl = SSL_CTX_new(options->client ? TLS_client_method() : TLS_server_method());
    bool ok = context->ssl != NULL ? configure(context->ssl, options, error)
                                   : fail(error, "OpenSSL does not work", "");
    ERR_clear_error();
    if (ok)
        return context;
    tls_context_free(context);
    return NULL;
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL || __atomic_sub_fetch(&context->owners, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    SSL_CTX_free(context->ssl);
    mem_free(context);
}

struct tls_context *tls_context_share(struct tls_context *context)
{
    if (context != NULL)
        __atomic_add_fetch(&context->owners, 1, __ATOMIC_RELAXED);
    return context;
}

/* --- Sessions --- */

struct tls *tls_new(struct tls_context *context, int fd)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct tls *t = mem_zalloc(sizeof(*t));
    pthread_once(&once, make_socket_method);
    t->fd = fd;
    t->ssl = SSL_new(context->ssl);
    BIO *bio = t->ssl != NULL && socket_method != NULL ? BIO_new(socket_method) : NULL;
    if (bio == NULL) {
        SSL_free(t->ssl);
        mem_free(t);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    if (context->client)
        SSL_set_connect_state(t->ssl);
    else
        SSL_set_accept_state(t->ssl);
    pthread_mutex_init(&t->lock, NULL);
    t->owners = 1;
    return t;
}

struct tls *tls_share(struct tls *t)
{
    __atomic_add_fetch(&t->owners, 1, __ATOMIC_RELAXED);
    return t;
}

void tls_unshare(struct tls *t)
{
    if (t == NULL || __atomic_sub_fetch(&t->owners, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    SSL_free(t->ssl);
    ERR_clear_error();
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

void tls_free(struct tls *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    /* A record that was written in part cannot be followed by another one. */
    if (tls_is_established(t) && !t->failed && t->unfinished == 0)
        SSL_shutdown(t->ssl);
    ERR_clear_error();
    t->freed = true;
    pthread_mutex_unlock(&t->lock);
    tls_unshare(t);
}

/* True: the session is there, and locked. */
static bool begin(struct tls *t)
{
    pthread_mutex_lock(&t->lock);
    if (t->freed) {
        pthread_mutex_unlock(&t->lock);
        errno = EPIPE;
        return false;
    }
    /* What others have left behind would be taken for this call's. */
    ERR_clear_error();
    t->error_number = 0;
    return true;
}

static ssize_t end(struct tls *t, ssize_t result)
{
    int number = errno;
    pthread_mutex_unlock(&t->lock);
    errno = number;
    return result;
}

/* What a call that did not succeed means: 0 when the peer has closed, or -1 with errno. */
static int finish(struct tls *t, int result)
{
    int code = SSL_get_error(t->ssl, result);
    if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) {
        errno = EAGAIN;
        return -1;
    }
    if (code == SSL_ERROR_ZERO_RETURN || (code == SSL_ERROR_SYSCALL && t->at_end))
        return 0;
    t->failed = true;
    if (t->error_number != 0) {
        snprintf(t->error, sizeof(t->error), "%s", strerror(t->error_number));
        errno = t->error_number;
        return -1;
    }
    unsigned long first = ERR_peek_error();
    const char *reason = ERR_reason_error_string(first);
    long verified = SSL_get_verify_result(t->ssl);
    if (verified != X509_V_OK)
        snprintf(t->error, sizeof(t->error), "%s (%s)", reason != NULL ? reason : "unknown",
                 X509_verify_cert_error_string(verified));
    else if (t->error[0] == '\0' || first != 0)
        snprintf(t->error, sizeof(t->error), "%s", reason != NULL ? reason : "unknown");
    ERR_clear_error();
    errno = EPROTO;
    return -1;
}

int tls_handshake(struct tls *t)
{
    if (!begin(t))
        return -1;
    t->drained = false;
    int n = SSL_do_handshake(t->ssl);
    if (n != 1)
        n = finish(t, n);
    t->read_wants_write = SSL_want_write(t->ssl);
    return (int)end(t, n);
}

void tls_begin_read(struct tls *t)
{
    pthread_mutex_lock(&t->lock);
    t->drained = false;
    pthread_mutex_unlock(&t->lock);
}

ssize_t tls_read(struct tls *t, void *data, size_t size)
{
    size_t count;
    if (!begin(t))
        return -1;
    if (t->drained && !SSL_has_pending(t->ssl)) {
        /* What OpenSSL would find out with a buffer that it allocates and frees for that. */
        t->read_wants_write = false;
        errno = EAGAIN;
        return end(t, -1);
    }
    int n = SSL_read_ex(t->ssl, data, size, &count);
    ssize_t result = n == 1 ? (ssize_t)count : finish(t, n);
    t->read_wants_write = SSL_want_write(t->ssl);
    return end(t, result);
}

ssize_t tls_write(struct tls *t, const void *data, size_t size)
{
    size_t count;
    if (!begin(t))
        return -1;
    if (size < t->unfinished) {
        errno = EAGAIN;
        return end(t, -1);
    }
    int n = SSL_write_ex(t->ssl, data, size, &count);
    ssize_t result = n == 1 ? (ssize_t)count : -1;
    if (n != 1 && finish(t, n) == 0)
        errno = EPIPE;
    t->unfinished = n != 1 && errno == EAGAIN ? (size < RECORD_MAX ? size : RECORD_MAX) : 0;
    t->write_wants_write = SSL_want_write(t->ssl);
    return end(t, result);
}

bool tls_read_wants_write(const struct tls *t)
{
    return t->read_wants_write;
}

bool tls_write_wants_write(const struct tls *t)
{
    return t->write_wants_write;
}

bool tls_is_established(const struct tls *t)
{
    return SSL_is_init_finished(t->ssl);
}

bool tls_pending(struct tls *t)
{
    pthread_mutex_lock(&t->lock);
    bool pending = SSL_has_pending(t->ssl);
    pthread_mutex_unlock(&t->lock);
    return pending;
}

const char *tls_error(const struct tls *t)
{
    return t->error;
}

size_t tls_memory(const struct tls *t)
{
    return sizeof(*t) + SESSION_MEMORY;
}

/* --- Who the peer is --- */

static X509 *verified_certificate(const struct tls *t)
{
    if (SSL_get_verify_result(t->ssl) != X509_V_OK)
        return NULL;
    return SSL_get0_peer_certificate(t->ssl);
}

static bool copy_name(const ASN1_STRING *from, char *name, size_t size)
{
    unsigned char *text;
    int length = from != NULL ? ASN1_STRING_to_UTF8(&text, from) : -1;
    if (length < 0)
        return false;
    bool ok = length > 0 && (size_t)length < size && memchr(text, '\0', (size_t)length) == NULL;
    if (ok) {
        memcpy(name, text, (size_t)length);
        name[length] = '\0';
    }
    OPENSSL_free(text);
    return ok;
}

bool tls_peer_common_name(const struct tls *t, char *name, size_t size)
{
    X509 *certificate = verified_certificate(t);
    if (certificate == NULL)
        return false;
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return at >= 0 &&
           copy_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)), name, size);
}

bool tls_peer_uri(const struct tls *t, int n, char *name, size_t size)
{
    X509 *certificate = verified_certificate(t);
    GENERAL_NAMES *names =
        certificate != NULL
            ? X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL)
            : NULL;
    bool found = false;
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found && n >= 0; i++) {
        const GENERAL_NAME *alternative = sk_GENERAL_NAME_value(names, i);
        if (alternative->type == GEN_URI && n-- == 0)
            found = copy_name(alternative->d.uniformResourceIdentifier, name, size);
    }
    GENERAL_NAMES_free(names);
    return found;
}
