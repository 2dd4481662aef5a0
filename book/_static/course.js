// The JupyterHub button: a reader's hub is not ours to know, so the page asks for its address once.
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="https://hub.example.org/"]');
  if (!link) return;
  event.preventDefault();
  const known = localStorage.getItem("jupyterhub") || "https://";
  const answer = window.prompt("The address of your JupyterHub:", known);
  if (!answer || !/^https?:\/\/./.test(answer)) return;
  const hub = answer.replace(/\/+$/, "");
  localStorage.setItem("jupyterhub", hub);
  window.open(link.href.replace("https://hub.example.org", hub), "_blank", "noopener");
});

// On paper nothing can be clicked: what is folded stands open while a page is printed.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("article details:not([open])")) {
    fold.open = true;
    fold.dataset.printed = "";
  }
});
addEventListener("afterprint", () => {
  for (const fold of document.querySelectorAll("details[data-printed]")) {
    fold.open = false;
    delete fold.dataset.printed;
  }
});
