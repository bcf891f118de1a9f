import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.math.BigInteger;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.AlgorithmParameters;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.PublicKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.interfaces.ECKey;
import java.security.spec.ECGenParameterSpec;
import java.security.spec.ECParameterSpec;
import java.security.spec.ECPoint;
import java.security.spec.ECPublicKeySpec;
import java.security.spec.InvalidKeySpecException;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.X509EncodedKeySpec;
import java.time.Duration;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * A merchant client for paymux, in Java 17 without dependencies: places orders, selects, queries,
 * receives notifications. Signs with an Ed25519 or an ECDSA P-256 key.
 */
public final class Client {
    static final String USAGE = """
        java Client.java place NUMBER AMOUNT MOBILE [ORDER-DATE]
        java Client.java select NUMBER INSTITUTION
        java Client.java query NUMBER
        java Client.java listen

        Prints the body of a verified response on stdout. Exit status: 0 for 2xx (202: not known yet,
        query again), 1 refused by the gateway or the institution, 2 invalid arguments, 3 not proven:
        no response, or none with a valid signature of the gateway.""";

    // The gateway's address, exactly its `public_origin`: it is part of what is signed.
    static final String GATEWAY = env("PAYMUX", "https://localhost:8443");
    static final String ROOTS = env("PAYMUX_ROOTS", "certs/ca.pem");
    // Our identity. The client certificate is used if the file exists.
    static final String MERCHANT = env("MERCHANT", "M1001");
    static final String NAME = env("MERCHANT_NAME", "Tea House");
    static final String KEY = env("MERCHANT_KEY", "certs/M1001-1.key");
    static final String KEY_ID = env("MERCHANT_KEY_ID", "M1001-1");
    static final String CERTIFICATE = env("MERCHANT_CERTIFICATE", "certs/M1001.pem");
    static final String CERTIFICATE_KEY = env("MERCHANT_CERTIFICATE_KEY", "certs/M1001.key");
    // Where we receive notifications, exactly as in bankReturnUrl: it is part of what is signed.
    static final String NOTICES = env("NOTICES", "https://localhost:7443/notices");
    static final String NOTICES_CERTIFICATE = env("NOTICES_CERTIFICATE", "certs/server.pem");
    static final String NOTICES_KEY = env("NOTICES_KEY", "certs/server.key");
    static final String NOTICES_BOOK = env("NOTICES_BOOK", "var/notices.txt");
    // The orders we placed; notifications are compared with them.
    static final Path ORDERS_BOOK = Path.of(env("ORDERS_BOOK", "var/orders.txt"));
    static final String CURRENCY = "CNY";
    // How long the gateway's keys are cached: a withdrawn key is trusted no longer than this. And the
    // shortest time between two fetches because of an unknown key.
    static final long KEYS_OLD_S = Long.parseLong(env("PAYMUX_KEYS_OLD_S", "600"));
    static final long KEYS_PAUSE_S = Long.parseLong(env("PAYMUX_KEYS_PAUSE_S", "10"));

    static final List<String> REQUEST_PARTS = List.of(
        "\"@method\"", "\"@target-uri\"", "\"content-digest\"", "\"content-type\"");
    static final List<String> ANSWER_PARTS = List.of(
        "\"@status\"", "\"content-digest\"", "\"content-type\"",
        // These bind the response to our request: a response to another request is not accepted.
        "\"@method\";req", "\"@target-uri\";req", "\"content-digest\";req",
        "\"signature\";req;key=\"sig1\"");
    static final long NOT_OLDER_S = 300;
    static final long SKEW_S = 30;
    static final int BODY_BYTES_MAX = 65_536;
    static final long[] WAITS_S = {1, 2, 4}; // between attempts, unless Retry-After is sent

    /** The message is not authenticated and must not be used. */
    static final class NotProven extends Exception {
        private static final long serialVersionUID = 1;

        NotProven(String why) {
            super(why);
        }

        @Override
        public String toString() {
            return getMessage();
        }
    }

    /** The components of a message, by their identifiers. */
    interface Message {
        /** Null if the message has no such component. */
        String part(String identifier);
    }

    static String env(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    // --- keys and TLS ---------------------------------------------------------------------------

    static PrivateKey privateKey(String file) throws IOException, GeneralSecurityException {
        String text = Files.readString(Path.of(file)).replaceAll("-----[A-Z ]+-----|\\s", "");
        var spec = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text));
        for (String kind : List.of("Ed25519", "EC", "RSA")) {
            try {
                return KeyFactory.getInstance(kind).generatePrivate(spec);
            } catch (InvalidKeySpecException other) {
                // Try the next type.
            }
        }
        throw new GeneralSecurityException(file + ": unsupported key type");
    }

    static List<Certificate> certificates(String file) throws IOException, GeneralSecurityException {
        try (var stream = Files.newInputStream(Path.of(file))) {
            return new ArrayList<>(CertificateFactory.getInstance("X.509").generateCertificates(stream));
        }
    }

    /** Trusts only our authorities; uses this certificate if the file exists. */
    static SSLContext tls(String certificate, String key) throws IOException, GeneralSecurityException {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        for (Certificate root : certificates(ROOTS)) {
            trusted.setCertificateEntry("root-" + trusted.size(), root);
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null, null);
        if (Files.exists(Path.of(certificate))) {
            var chain = certificates(certificate).toArray(new Certificate[0]);
            own.setKeyEntry("own", privateKey(key), new char[0], chain);
        }
        var shown = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        shown.init(own, new char[0]);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(shown.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static HttpClient line;

    static synchronized HttpClient line() throws IOException, GeneralSecurityException {
        if (line == null) {
            line = HttpClient.newBuilder()
                .sslContext(tls(CERTIFICATE, CERTIFICATE_KEY))
                .version(HttpClient.Version.HTTP_1_1)
                .followRedirects(HttpClient.Redirect.NEVER)
                .connectTimeout(Duration.ofSeconds(5))
                .build();
        }
        return line;
    }

    /** The key determines the algorithm, never the message. */
    static Signature algorithm(java.security.Key key) throws GeneralSecurityException {
        return Signature.getInstance(
            key instanceof ECKey ? "SHA256withECDSAinP1363Format" : "Ed25519");
    }

    /** The gateway's keys, and when they were fetched (monotonic clock). */
    record Keys(String set, long at) {
        boolean youngerThan(long seconds) {
            return System.nanoTime() - at < seconds * 1_000_000_000;
        }
    }

    private static final Object LOOKING = new Object();
    private static volatile Keys published;
    private static CompletableFuture<Keys> latest;
    private static long tried;

    /**
     * The current keys. They are not fetched for every message: a recent result is reused, and
     * threads that arrive during a fetch wait for it. A cached key needs no waiting.
     */
    static Keys look() throws InterruptedException, NotProven {
        CompletableFuture<Keys> look;
        boolean mine;
        synchronized (LOOKING) {
            long now = System.nanoTime();
            mine = latest == null
                || latest.isDone() && now - tried >= KEYS_PAUSE_S * 1_000_000_000;
            if (mine) {
                // Set before the fetch: a failed fetch counts as well.
                latest = new CompletableFuture<>();
                tried = now;
            }
            look = latest;
        }
        if (mine) {
            try {
                Keys keys = fetchKeys();
                published = keys;
                look.complete(keys);
            } catch (Exception fault) {
                look.completeExceptionally(fault);
            }
        }
        try {
            return look.get();
        } catch (ExecutionException fault) {
            throw new NotProven("no keys: " + fault.getCause());
        }
    }

    static Keys fetchKeys()
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        long now = System.nanoTime();
        var request = HttpRequest.newBuilder(URI.create(GATEWAY + "/.well-known/jwks.json"))
            .timeout(Duration.ofSeconds(10)).build();
        var answer = line().send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new NotProven("HTTP " + answer.statusCode());
        }
        return new Keys(answer.body().replaceAll("\\s", ""), now);
    }

    /** A public key of the gateway, fetched from the gateway and authenticated by TLS. */
    static PublicKey platformKey(String id)
        throws InterruptedException, GeneralSecurityException, NotProven {
        String named = "\"kid\":\"" + id + "\"";
        Keys known = published;
        // An unknown id is a new key, or not the gateway's.
        if (known == null || !known.youngerThan(KEYS_OLD_S) || !known.set().contains(named)) {
            known = look();
        }
        long now = Instant.now().getEpochSecond();
        Matcher keys = Pattern.compile("\\{[^{}]*\\}").matcher(known.set());
        while (keys.find()) {
            String jwk = keys.group();
            if (jwk.contains(named) && number(jwk, "nbf") <= now && now <= number(jwk, "exp")) {
                return publicKey(jwk);
            }
        }
        throw new NotProven("the platform has no key '" + id + "' in force");
    }

    static PublicKey publicKey(String jwk) throws GeneralSecurityException, NotProven {
        byte[] x = Base64.getUrlDecoder().decode(text(jwk, "x"));
        switch (text(jwk, "crv")) {
            case "Ed25519" -> {
                // RFC 8410: the prefix of an Ed25519 public key, then its 32 bytes.
                byte[] head = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
                byte[] whole = Arrays.copyOf(head, head.length + x.length);
                System.arraycopy(x, 0, whole, head.length, x.length);
                return KeyFactory.getInstance("Ed25519").generatePublic(new X509EncodedKeySpec(whole));
            }
            case "P-256" -> {
                byte[] y = Base64.getUrlDecoder().decode(text(jwk, "y"));
                var curve = AlgorithmParameters.getInstance("EC");
                curve.init(new ECGenParameterSpec("secp256r1"));
                var point = new ECPoint(new BigInteger(1, x), new BigInteger(1, y));
                var spec = new ECPublicKeySpec(point, curve.getParameterSpec(ECParameterSpec.class));
                return KeyFactory.getInstance("EC").generatePublic(spec);
            }
            default -> throw new NotProven("the platform's key is of an unsupported type");
        }
    }

    // --- minimal JSON -----------------------------------------------------------------------------

    /**
     * A text field of an object; empty if absent. Quotes within values are always escaped, so that no
     * part of a value can look like a name.
     */
    static String text(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([^\"\\\\]*)\"").matcher(json);
        return found.find() ? found.group(1) : "";
    }

    static long number(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*([0-9]{1,12})[,}]").matcher(json);
        return found.find() ? Long.parseLong(found.group(1)) : Long.MIN_VALUE;
    }

    static String json(Map<String, String> fields) {
        var written = new StringBuilder("{");
        fields.forEach((name, value) -> written
            .append(written.length() > 1 ? "," : "")
            .append('"').append(name).append("\":\"")
            .append(value.replace("\\", "\\\\").replace("\"", "\\\"")).append('"'));
        return written.append('}').toString();
    }

    // --- signatures: RFC 9421 and RFC 9530 ---------------------------------------------------------

    static String digest(byte[] body) throws GeneralSecurityException {
        byte[] hash = MessageDigest.getInstance("SHA-256").digest(body);
        return "sha-256=:" + Base64.getEncoder().encodeToString(hash) + ":";
    }

    /** The signature base: one line per component, then the signature's parameters. */
    static byte[] base(Message message, List<String> parts, String parameters) throws NotProven {
        var base = new StringBuilder();
        for (String part : parts) {
            String value = message.part(part);
            if (value == null) {
                throw new NotProven("it covers " + part + ", which is absent");
            }
            base.append(part).append(": ").append(value).append('\n');
        }
        return base.append("\"@signature-params\": ").append(parameters).toString().getBytes(UTF_8);
    }

    // Exactly one signature: a second one would not match.
    static final Pattern INPUT =
        Pattern.compile("([a-z*][a-z0-9_.*-]*)=(\\(([^()]*)\\)(;[^,()]*))");

    /** Verifies that the gateway signed the message, all these components of it, and this body. */
    static void verify(Message message, byte[] body, List<String> parts)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        Matcher input = INPUT.matcher(header(message, "signature-input"));
        if (!input.matches()) {
            throw new NotProven("the message does not have exactly one signature");
        }
        List<String> covered = List.of(input.group(3).split(" "));
        for (String part : parts) {
            if (!covered.contains(part)) {
                throw new NotProven("the signature does not cover " + part);
            }
        }
        if (new HashSet<>(covered).size() != covered.size()) {
            throw new NotProven("a component is covered twice");
        }
        String parameters = input.group(4) + ";";
        long now = Instant.now().getEpochSecond();
        long created = moment(parameters, "created", Long.MIN_VALUE);
        if (created < now - NOT_OLDER_S || created > now + SKEW_S) {
            throw new NotProven("the signature is not recent");
        }
        if (moment(parameters, "expires", now) < now - SKEW_S) {
            throw new NotProven("the signature has expired");
        }
        if (!header(message, "content-digest").equals(digest(body))) {
            throw new NotProven("content-digest does not match the body");
        }
        Matcher key = Pattern.compile(";keyid=\"([A-Za-z0-9._-]{1,64})\";").matcher(parameters);
        if (!key.find()) {
            throw new NotProven("the signature names no key");
        }
        PublicKey platform = platformKey(key.group(1));
        String label = Pattern.quote(input.group(1));
        Matcher proof = Pattern.compile(label + "=:([A-Za-z0-9+/=]+):")
            .matcher(header(message, "signature"));
        if (!proof.matches()) {
            throw new NotProven("Signature does not match Signature-Input");
        }
        Signature verifier = algorithm(platform);
        verifier.initVerify(platform);
        verifier.update(base(message, covered, input.group(2)));
        if (!proves(verifier, proof.group(1))) {
            throw new NotProven("the signature is not the platform's");
        }
    }

    static boolean proves(Signature verifier, String proof) {
        try {
            return verifier.verify(Base64.getDecoder().decode(proof));
        } catch (GeneralSecurityException | IllegalArgumentException malformed) {
            return false;
        }
    }

    static String header(Message message, String name) {
        String value = message.part('"' + name + '"');
        return value == null ? "" : value;
    }

    static long moment(String parameters, String name, long otherwise) {
        Matcher found = Pattern.compile(";" + name + "=([0-9]{1,12});").matcher(parameters);
        return found.find() ? Long.parseLong(found.group(1)) : otherwise;
    }

    /** The value of a header, several lines joined; null if absent. */
    static String joined(List<String> lines) {
        return lines == null || lines.isEmpty()
            ? null : String.join(", ", lines.stream().map(String::strip).toList());
    }

    static String unquoted(String identifier) {
        return identifier.matches("\"[a-z0-9-]+\"")
            ? identifier.substring(1, identifier.length() - 1) : "";
    }

    // --- requests ------------------------------------------------------------------------------

    /** A signed request and its response. */
    record Exchange(String target, String digest, String signature, HttpResponse<byte[]> answer)
        implements Message {
        @Override
        public String part(String identifier) {
            return switch (identifier) {
                case "\"@status\"" -> Integer.toString(answer.statusCode());
                case "\"@method\";req" -> "POST";
                case "\"@target-uri\";req" -> target;
                case "\"content-digest\";req" -> digest;
                case "\"signature\";req;key=\"sig1\"" -> ":" + signature + ":";
                default -> joined(answer.headers().map().get(unquoted(identifier)));
            };
        }
    }

    /** Signs and sends. Sign again before each attempt: a nonce can be used only once. */
    static Exchange send(String path, byte[] body)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        String target = GATEWAY + path;
        String media = "application/json";
        // Over exactly the bytes that are sent.
        String digest = digest(body);
        byte[] drawn = new byte[24];
        new SecureRandom().nextBytes(drawn);
        String nonce = Base64.getUrlEncoder().withoutPadding().encodeToString(drawn);
        long now = Instant.now().getEpochSecond();
        String parameters = "(" + String.join(" ", REQUEST_PARTS) + ");created=" + now
            + ";expires=" + (now + 120) + ";nonce=\"" + nonce + "\";keyid=\"" + KEY_ID + "\"";
        Message message = identifier -> switch (identifier) {
            case "\"@method\"" -> "POST";
            case "\"@target-uri\"" -> target;
            case "\"content-digest\"" -> digest;
            case "\"content-type\"" -> media;
            default -> null;
        };
        PrivateKey key = privateKey(KEY);
        Signature signer = algorithm(key);
        signer.initSign(key);
        signer.update(base(message, REQUEST_PARTS, parameters));
        String signature = Base64.getEncoder().encodeToString(signer.sign());
        HttpRequest request = HttpRequest.newBuilder(URI.create(target))
            .timeout(Duration.ofSeconds(20))
            .header("content-type", media)
            .header("content-digest", digest)
            .header("signature-input", "sig1=" + parameters)
            .header("signature", "sig1=:" + signature + ":")
            .POST(HttpRequest.BodyPublishers.ofByteArray(body))
            .build();
        var answer = line().send(request, HttpResponse.BodyHandlers.ofByteArray());
        return new Exchange(target, digest, signature, answer);
    }

    /** Sends until there is a response: the same bytes each time, with a new signature. */
    static Exchange ask(String path, byte[] body)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        for (int tries = 0; ; tries++) {
            boolean last = tries == WAITS_S.length;
            long wait = last ? 0 : WAITS_S[tries];
            try {
                Exchange exchange = send(path, body);
                if (last || !Set.of(429, 500, 503).contains(exchange.answer().statusCode())) {
                    return exchange;
                }
                String asked = exchange.answer().headers().firstValue("retry-after").orElse("");
                wait = asked.matches("[0-9]{1,2}") ? Long.parseLong(asked) : wait;
            } catch (IOException fault) {
                if (last) {
                    throw new NotProven("no response: " + fault);
                }
            }
            Thread.sleep(wait * 1_000);
        }
    }

    static int call(String path, Map<String, String> more)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        Map<String, String> fields = new LinkedHashMap<>();
        fields.put("merchantId", MERCHANT);
        fields.putAll(more);
        Exchange exchange = ask(path, json(fields).getBytes(UTF_8));
        int status = exchange.answer().statusCode();
        String said = new String(exchange.answer().body(), UTF_8);
        try {
            verify(exchange, exchange.answer().body(), ANSWER_PARTS);
        } catch (NotProven fault) {
            // An error response to an unidentified caller is unsigned: show it, do not trust it.
            throw new NotProven(fault.getMessage() + "; HTTP " + status + ", body: " + said);
        }
        System.out.write((said + "\n").getBytes(UTF_8));
        System.out.flush();
        if (status == 202) {
            System.err.println("not known yet: query again");
        }
        // A refusal by the institution is also a valid response.
        if (status == 200 && text(said, "result").equals("REFUSED")) {
            System.err.println("refused: " + text(said, "reason"));
            return 1;
        }
        return status < 300 ? 0 : 1;
    }

    /** An order as one line; 12.3 and 12.30 are equal. */
    static String terms(String number, String sum, String currency) throws NotProven {
        String plain = sum.replaceAll("(\\.[0-9]*?)0+$", "$1").replaceAll("\\.$", "");
        String line = number + " " + plain + " " + currency;
        if (!line.matches("[A-Za-z0-9_-]{1,32} [0-9]+(\\.[0-9]+)? [A-Z]{3}")) {
            throw new NotProven("expected NUMBER AMOUNT, such as T1 12.30");
        }
        return line;
    }

    /** Stores the order before it is placed. In production: your orders table. */
    static void remember(String line) throws IOException {
        Files.createDirectories(ORDERS_BOOK.toAbsolutePath().getParent());
        Files.writeString(ORDERS_BOOK, line + "\n", StandardOpenOption.CREATE,
            StandardOpenOption.APPEND, StandardOpenOption.SYNC);
    }

    /** Whether we placed this order, for this amount in this currency. */
    static boolean isOurs(String event) throws IOException, NotProven {
        return text(event, "merchantId").equals(MERCHANT)
            && Files.readAllLines(ORDERS_BOOK).contains(terms(text(event, "merchantOrderNo"),
                text(event, "orderAmount"), text(event, "currency")));
    }

    static int place(String number, String sum, String mobile, String date)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        remember(terms(number, sum, CURRENCY));
        Map<String, String> fields = new LinkedHashMap<>();
        fields.put("transactionType", "PASSWORD_PAY");
        fields.put("businessType", "AGGREGATED");
        fields.put("bankReturnUrl", NOTICES);
        fields.put("merchantOrderNo", number);
        fields.put("merchantName", NAME);
        fields.put("orderDate", date);
        fields.put("orderAmount", sum);
        fields.put("currency", CURRENCY);
        fields.put("mobileNo", mobile);
        fields.put("goodsName", "\u660e\u524d\u9f99\u4e95");
        return call("/v1/orders", fields);
    }

    /** The date is part of the order: store it, a repeat must send the same date. */
    static String today() {
        return LocalDate.now(ZoneId.of("Asia/Shanghai")).format(DateTimeFormatter.BASIC_ISO_DATE);
    }

    static int select(String number, String institution)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        return call("/v1/orders/select", Map.of(
            "merchantOrderNo", number, "institutionId", institution, "mode", "WEBVIEW"));
    }

    static int query(String number)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        return call("/v1/orders/query", Map.of("merchantOrderNo", number));
    }

    // --- notifications ----------------------------------------------------------------------------

    /**
     * Records each event once. In production: one database transaction for the event's id and for
     * its effect.
     */
    static final class Book {
        private final Set<String> seen = new HashSet<>();
        private final FileChannel file;

        Book(Path path) throws IOException {
            Files.createDirectories(path.toAbsolutePath().getParent());
            file = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            Files.readAllLines(path).forEach(line -> seen.add(line.split(" ")[0]));
        }

        synchronized String enter(String event) throws IOException {
            String id = text(event, "eventId");
            if (seen.contains(id)) {
                return "repeated " + id;
            }
            var names = List.of("eventId", "eventType", "merchantOrderNo", "orderAmount",
                "currency", "orderStatus");
            String line = String.join(" ", names.stream().map(name -> text(event, name)).toList());
            file.write(ByteBuffer.wrap((line + "\n").getBytes(UTF_8)));
            file.force(true);
            seen.add(id);
            return "heard " + id;
        }
    }

    static void hear(Book book, HttpExchange exchange)
        throws IOException, InterruptedException, GeneralSecurityException, NotProven {
        URI notices = URI.create(NOTICES);
        String query = notices.getRawQuery() == null ? "" : "?" + notices.getRawQuery();
        boolean ours = exchange.getRequestURI().toString().equals(notices.getRawPath() + query);
        if (!ours || !exchange.getRequestMethod().equals("POST")) {
            throw new NotProven("no notifications are accepted at " + exchange.getRequestURI());
        }
        byte[] body = exchange.getRequestBody().readNBytes(BODY_BYTES_MAX);
        verify(identifier -> switch (identifier) {
            case "\"@method\"" -> "POST";
            // Not the Host header: a notification for another merchant must not be accepted here.
            case "\"@target-uri\"" -> NOTICES;
            default -> joined(exchange.getRequestHeaders().get(unquoted(identifier)));
        }, body, REQUEST_PARTS);
        String event = new String(body, UTF_8);
        if (!isOurs(event)) {
            throw new NotProven("not our order, or another amount or currency");
        }
        System.out.println(book.enter(event));
    }

    static void reply(HttpExchange exchange, int status, String word) throws IOException {
        byte[] body = json(Map.of("noticeResult", word)).getBytes(UTF_8);
        exchange.getResponseHeaders().set("content-type", "application/json");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    static void listen() throws IOException, GeneralSecurityException {
        // Seconds a sender has for its request.
        System.setProperty("sun.net.httpserver.maxReqTime", "10");
        Book book = new Book(Path.of(NOTICES_BOOK));
        URI notices = URI.create(NOTICES);
        var address = new InetSocketAddress(
            InetAddress.getByName("127.0.0.1"), notices.getPort() < 0 ? 443 : notices.getPort());
        HttpsServer server = HttpsServer.create(address, 0);
        server.setHttpsConfigurator(new HttpsConfigurator(tls(NOTICES_CERTIFICATE, NOTICES_KEY)));
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/", exchange -> {
            try {
                hear(book, exchange);
                // Only after it is stored durably.
                reply(exchange, 200, "SUCCESS");
            } catch (Exception fault) {
                System.err.println("refused: " + fault.getMessage());
                reply(exchange, 401, "FAILURE");
            }
        });
        server.start();
        System.out.println("listening at " + NOTICES);
    }

    public static void main(String[] words) throws Exception {
        String deed = words.length == 0 ? "" : words[0];
        try {
            int status = switch (deed + "/" + words.length) {
                case "place/4" -> place(words[1], words[2], words[3], today());
                case "place/5" -> place(words[1], words[2], words[3], words[4]);
                case "select/3" -> select(words[1], words[2]);
                case "query/2" -> query(words[1]);
                case "listen/1" -> {
                    listen();
                    yield -1;
                }
                default -> {
                    System.err.println(USAGE);
                    yield 2;
                }
            };
            if (status >= 0) {
                System.exit(status);
            }
        } catch (NotProven | IOException | GeneralSecurityException | RuntimeException fault) {
            System.err.println("not proven: " + fault);
            System.exit(3);
        }
    }
}
