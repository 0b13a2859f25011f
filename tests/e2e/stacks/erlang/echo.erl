%% Yaws. echo:start(PORT)
-module(echo).
-export([start/1, out/1, handle_message/1]).

start(Port) ->
    ok = yaws:start_embedded("erlang",
                             [{port, Port}, {listen, {127, 0, 0, 1}}, {servername, "echo"}, {appmods, [{"/", echo}]}],
                             [{logdir, "/tmp"}, {copy_errlog, false}], "echo").

out(_) ->
    {websocket, echo, [{keepalive, true}, {keepalive_timeout, 1500}, {keepalive_grace_period, 1000},
                       {drop_on_timeout, true}, {max_message_size, 65536}, {max_frame_size, 65536}]}.

handle_message({text, <<"raise">>}) -> error("told to");
handle_message({text, <<"return">>}) -> {close, normal};
handle_message({text, Message}) -> {reply, {text, Message}};
handle_message({close, Status, _}) -> {close, Status};
handle_message(_) -> noreply.
