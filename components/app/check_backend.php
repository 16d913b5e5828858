<?php
/*
 * What a Laravel application needs around it, asked with its own `.env` before a release begins: databases, cache,
 * bucket, mail relay. With PHP's own clients, so that what passes here passes in the application.
 *
 *     check_backend.php [SECONDS] < .env      one line for each fault; exit status 1 if there is one
 *
 * SECONDS (20): how long services together get to answer, since one that is just made may need them.
 *
 * Asks only what the `.env` names. Nothing is written but one key of the cache, for ten seconds, and nothing is sent.
 */

declare(strict_types=1);

const PATIENCE = 20;
const TIMEOUT = 5;

/** A service answered, and the answer will not become better by waiting. */
final class Refused extends RuntimeException
{
}

/** The `.env` as berth writes it (components/app/dotenv.py): NAME=value or NAME="value" with escapes. */
function environment(string $text): array
{
    $values = [];
    foreach (explode("\n", $text) as $line) {
        if (!str_contains($line, '=')) {
            continue;
        }
        [$name, $value] = explode('=', $line, 2);
        if (str_starts_with($value, '"')) {
            $escapes = ['\\\\' => '\\', '\\"' => '"', '\\$' => '$', '\\n' => "\n", '\\r' => "\r", '\\t' => "\t"];
            $value = strtr(substr($value, 1, -1), $escapes);
        }
        $values[$name] = $value;
    }
    return $values;
}

/** Again until it succeeds, a service refuses, or it is `$until`; returns the fault or "". */
function fault(string $what, callable $ask, float $until): string
{
    while (true) {
        try {
            $ask();
            return '';
        } catch (Refused $refused) {
            return "$what refuses: {$refused->getMessage()}";
        } catch (Throwable $error) {
            if (microtime(true) > $until) {
                return "$what does not answer: " . trim(preg_replace('/\s+/', ' ', $error->getMessage()));
            }
        }
        usleep(500_000);
    }
}

function database(array $env, string $suffix): void
{
    // What has no name of its own is that of the main database, as in Laravel's configuration.
    $of = fn (string $name): string => $env["DB_$name$suffix"] ?? $env["DB_$name"] ?? '';
    $parts = ['host' => $of('HOST'), 'port' => $of('PORT') ?: '5432', 'dbname' => $of('DATABASE'),
        'sslmode' => $of('SSLMODE') ?: 'prefer', 'sslrootcert' => $of('SSLROOTCERT'),
        'connect_timeout' => (string) TIMEOUT];
    $dsn = '';
    foreach (array_filter($parts, 'strlen') as $name => $value) {
        $dsn .= "$name='" . addcslashes($value, "\\'") . "';";
    }
    try {
        $pdo = new PDO("pgsql:$dsn", $of('USERNAME'), $of('PASSWORD'), [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
        $pdo->query('SELECT 1');
    } catch (PDOException $error) {
        $said = $error->getMessage();
        $final = ['authentication failed', 'does not exist', 'permission denied', 'pg_hba.conf', 'certificate', 'root'];
        foreach ($final as $words) {
            if (str_contains($said, $words)) {
                throw new Refused(trim(preg_replace('/\s+/', ' ', $said)));
            }
        }
        throw $error;
    }
}

function redis(array $env): void
{
    $tls = ($env['REDIS_SCHEME'] ?? 'tcp') === 'tls';
    // The service's own certificate is the only authority there is, so it need not hold the name we call it by.
    $verified = ['verify_peer' => true, 'verify_peer_name' => false];
    $context = $tls ? ['stream' => array_filter(['cafile' => $env['REDIS_CA'] ?? null]) + $verified] : [];
    $redis = new Redis();
    $warning = '';
    set_error_handler(function (int $level, string $text) use (&$warning): bool {
        $warning = $text;
        return true;
    });
    try {
        $host = ($tls ? 'tls://' : '') . $env['REDIS_HOST'];
        if (!$redis->connect($host, (int) ($env['REDIS_PORT'] ?? 6379), TIMEOUT, null, 0, TIMEOUT, $context)) {
            throw new RuntimeException($warning ?: 'no connection');
        }
    } catch (RedisException $error) {
        $said = trim($error->getMessage() . ' ' . $warning);
        throw str_contains($said, 'certificate') ? new Refused($said) : new RuntimeException($said);
    } finally {
        restore_error_handler();
    }
    try {
        $password = $env['REDIS_PASSWORD'] ?? '';
        $user = $env['REDIS_USERNAME'] ?? '';
        if ($password !== '') {
            $redis->auth($user !== '' ? [$user, $password] : $password);
        }
        if (!$redis->set('berth:check', '1', ['ex' => 10])) {
            throw new Refused((string) $redis->getLastError());
        }
    } catch (RedisException $error) {
        $said = $error->getMessage();
        if (preg_match('/WRONGPASS|NOAUTH|NOPERM|invalid password|READONLY|MISCONF|OOM/', $said)) {
            throw new Refused($said);
        }
        throw $error;
    }
}

function bucket(array $env): void
{
    $endpoint = rtrim($env['AWS_ENDPOINT'], '/');
    $ask = curl_init("$endpoint/{$env['AWS_BUCKET']}?list-type=2&max-keys=1");
    curl_setopt_array($ask, [
        CURLOPT_AWS_SIGV4 => "aws:amz:{$env['AWS_DEFAULT_REGION']}:s3",
        CURLOPT_USERPWD => "{$env['AWS_ACCESS_KEY_ID']}:{$env['AWS_SECRET_ACCESS_KEY']}",
        CURLOPT_HTTPHEADER => ['x-amz-content-sha256: ' . hash('sha256', '')], // S3 asks for it, curl 7.88 sends none
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CONNECTTIMEOUT => TIMEOUT,
        CURLOPT_TIMEOUT => 3 * TIMEOUT,
    ]);
    $body = curl_exec($ask);
    if ($body === false) {
        throw new RuntimeException(curl_error($ask));
    }
    $status = curl_getinfo($ask, CURLINFO_RESPONSE_CODE);
    if ($status >= 500) {
        throw new RuntimeException("HTTP $status");
    }
    if ($status !== 200) {
        preg_match('~<Code>([^<]*)</Code>~', $body, $code);
        $meaning = match ($code[1] ?? '') {
            'NoSuchBucket' => 'there is no such bucket',
            'InvalidAccessKeyId' => 'the key is unknown (revoked?)',
            'SignatureDoesNotMatch' => 'the secret key is wrong',
            'AccessDenied' => 'the key may not use this bucket (revoked?)',
            default => '',
        };
        throw new Refused(trim("HTTP $status " . ($code[1] ?? '') . ": $meaning", ' :'));
    }
}

/** One answer of an SMTP server, which may have several lines. */
function reply($socket, string $expected): string
{
    $said = '';
    do {
        $line = fgets($socket);
        if ($line === false) {
            throw new RuntimeException('the connection was lost');
        }
        $said .= $line;
    } while (isset($line[3]) && $line[3] === '-');
    if (!str_starts_with($line, $expected)) {
        $text = trim($line);
        throw $line[0] === '5' ? new Refused($text) : new RuntimeException($text);
    }
    return $said;
}

function mail_relay(array $env): void
{
    $encryption = $env['MAIL_ENCRYPTION'] ?? '';
    $port = (int) ($env['MAIL_PORT'] ?? 587);
    $wrapped = $encryption === 'ssl' || $port === 465;
    $context = stream_context_create(['ssl' => ['peer_name' => $env['MAIL_HOST']]]);
    $address = ($wrapped ? 'tls' : 'tcp') . "://{$env['MAIL_HOST']}:$port";
    $socket = @stream_socket_client($address, $number, $text, TIMEOUT, STREAM_CLIENT_CONNECT, $context);
    if ($socket === false) {
        throw new RuntimeException($text ?: (error_get_last()['message'] ?? 'no connection'));
    }
    stream_set_timeout($socket, 3 * TIMEOUT);
    $hello = 'EHLO ' . (gethostname() ?: 'localhost') . "\r\n";
    reply($socket, '220');
    fwrite($socket, $hello);
    $offered = reply($socket, '250');
    if (!$wrapped && $encryption !== '') {
        if (!str_contains($offered, 'STARTTLS')) {
            throw new Refused('it offers no TLS');
        }
        fwrite($socket, "STARTTLS\r\n");
        reply($socket, '220');
        error_clear_last();
        if (@stream_socket_enable_crypto($socket, true, STREAM_CRYPTO_METHOD_TLS_CLIENT) !== true) {
            throw new Refused('TLS: ' . (error_get_last()['message'] ?? 'failed'));
        }
        fwrite($socket, $hello);
        $offered = reply($socket, '250');
    }
    if (($env['MAIL_USERNAME'] ?? '') !== '') {
        $login = base64_encode("\0{$env['MAIL_USERNAME']}\0{$env['MAIL_PASSWORD']}");
        fwrite($socket, "AUTH PLAIN $login\r\n");
        reply($socket, '235');
    }
    fwrite($socket, "QUIT\r\n");
}

$env = environment(stream_get_contents(STDIN));
$asked = [];
if (($env['DB_CONNECTION'] ?? '') === 'pgsql') {
    foreach (['', '_SANDBOX'] as $suffix) {
        if (isset($env["DB_DATABASE$suffix"])) {
            $where = ($env["DB_HOST$suffix"] ?? $env['DB_HOST']) . ':' . ($env["DB_PORT$suffix"] ?? $env['DB_PORT'] ?? 5432);
            $what = "database {$env["DB_DATABASE$suffix"]} at $where";
            $asked[$what] = fn () => database($env, $suffix);
        }
    }
}
if (isset($env['REDIS_HOST'])) {
    $asked["cache (Redis) at {$env['REDIS_HOST']}:" . ($env['REDIS_PORT'] ?? 6379)] = fn () => redis($env);
}
if (isset($env['AWS_BUCKET'], $env['AWS_ENDPOINT'])) {
    $asked["bucket {$env['AWS_BUCKET']} at {$env['AWS_ENDPOINT']}"] = fn () => bucket($env);
}
if (($env['MAIL_MAILER'] ?? '') === 'smtp') {
    $asked["mail relay {$env['MAIL_HOST']}:" . ($env['MAIL_PORT'] ?? 587)] = fn () => mail_relay($env);
}
$until = microtime(true) + (float) ($argv[1] ?? PATIENCE);
$faults = [];
foreach ($asked as $what => $ask) {
    $fault = fault($what, $ask, $until);
    if ($fault !== '') {
        $faults[] = $fault;
        echo "$fault\n";
    }
}
exit($faults ? 1 : 0);
