(function () {
  var shown = document.getElementById("bridge");
  function start() {
    var parameters = JSON.parse(shown.getAttribute("data-parameters"));
    WeixinJSBridge.invoke("getBrandWCPayRequest", parameters, function () {
      location.replace("return");
    });
  }
  document.getElementById("onward").addEventListener("click", function () {
    if (typeof WeixinJSBridge !== "undefined") { start(); }
  });
  if (typeof WeixinJSBridge === "undefined") {
    document.addEventListener("WeixinJSBridgeReady", start, false);
  } else {
    start();
  }
})();
