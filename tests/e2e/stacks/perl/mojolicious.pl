# Mojolicious::Lite: perl mojolicious.pl daemon -l http://127.0.0.1:PORT
use Mojolicious::Lite -signatures;

websocket '/' => sub ($c) {
  $c->on(message => sub ($c, $message) {
    die 'told to' if $message eq 'raise';
    return $c->finish if $message eq 'return';
    $c->send($message);
  });
};

app->start;
