// Tomcat 10, embedded. PORT
import jakarta.websocket.OnMessage;
import jakarta.websocket.Session;
import jakarta.websocket.server.ServerContainer;
import jakarta.websocket.server.ServerEndpoint;
import java.io.File;
import java.nio.file.Files;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.websocket.server.WsSci;

public class Echo {
  @ServerEndpoint("/")
  public static class Endpoint {
    @OnMessage
    public String echo(String message, Session session) {
      if (message.equals("raise")) throw new IllegalStateException("told to");
      return message;
    }
  }

  public static void main(String[] arguments) throws Exception {
    Tomcat tomcat = new Tomcat();
    File directory = Files.createTempDirectory("tomcat").toFile();
    tomcat.setBaseDir(directory.getPath());
    tomcat.setPort(Integer.parseInt(arguments[0]));
    tomcat.getConnector().setProperty("address", "127.0.0.1");
    Context context = tomcat.addContext("", directory.getPath());
    context.addServletContainerInitializer(new WsSci(), null);
    context.addApplicationListener(Echo.class.getName() + "$Register");
    Tomcat.addServlet(context, "default", "org.apache.catalina.servlets.DefaultServlet");
    context.addServletMappingDecoded("/", "default");
    tomcat.start();
    tomcat.getServer().await();
  }

  public static class Register implements jakarta.servlet.ServletContextListener {
    @Override
    public void contextInitialized(jakarta.servlet.ServletContextEvent event) {
      try {
        ((ServerContainer) event.getServletContext().getAttribute(ServerContainer.class.getName()))
            .addEndpoint(Endpoint.class);
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
    }
  }
}
