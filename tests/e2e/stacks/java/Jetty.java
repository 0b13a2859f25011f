// Jetty 9, embedded. PORT
import java.net.InetSocketAddress;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.websocket.api.Session;
import org.eclipse.jetty.websocket.api.annotations.OnWebSocketMessage;
import org.eclipse.jetty.websocket.api.annotations.WebSocket;
import org.eclipse.jetty.websocket.server.WebSocketHandler;
import org.eclipse.jetty.websocket.servlet.WebSocketServletFactory;

public class Jetty {
  @WebSocket
  public static class Endpoint {
    @OnWebSocketMessage
    public void echo(Session session, String message) throws Exception {
      if (message.equals("raise")) throw new IllegalStateException("told to");
      if (message.equals("return")) session.close();
      else session.getRemote().sendString(message);
    }
  }

  public static void main(String[] arguments) throws Exception {
    Server server = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
    server.setHandler(
        new WebSocketHandler() {
          @Override
          public void configure(WebSocketServletFactory factory) {
            factory.getPolicy().setIdleTimeout(3000);
            factory.getPolicy().setMaxTextMessageSize(65536);
            factory.register(Endpoint.class);
          }
        });
    server.setStopAtShutdown(true);
    server.start();
    server.join();
  }
}
