// Qt WebSockets. PORT
#include <QCoreApplication>
#include <QHostAddress>
#include <QWebSocket>
#include <QWebSocketServer>

#include <cstdlib>
#include <stdexcept>

int main(int count, char **arguments) {
  QCoreApplication application(count, arguments);
  QWebSocketServer server("echo", QWebSocketServer::NonSecureMode);
  if (count < 2 || !server.listen(QHostAddress::LocalHost, std::atoi(arguments[1]))) return 1;
  QObject::connect(&server, &QWebSocketServer::newConnection, [&server] {
    QWebSocket *socket = server.nextPendingConnection();
    socket->setMaxAllowedIncomingMessageSize(65536);
    QObject::connect(socket, &QWebSocket::textMessageReceived, [socket](const QString &message) {
      if (message == "raise") throw std::runtime_error("told to");
      if (message == "return")
        socket->close();
      else
        socket->sendTextMessage(message);
    });
    QObject::connect(socket, &QWebSocket::disconnected, socket, &QObject::deleteLater);
  });
  return application.exec();
}
