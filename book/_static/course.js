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

// A figure's picture opens as wide as the window, or wider: the tiles of a grid can be looked at.
function enlarge(picture) {
  const large = document.createElement("dialog");
  const close = document.createElement("button");
  const copy = document.createElement("img");
  Object.assign(copy, { src: picture.src, alt: picture.alt });
  copy.className = "dark-light"; // the theme dims it no further
  large.className = "ilsvrc-large";
  large.setAttribute("aria-label", "The picture, enlarged");
  large.tabIndex = -1; // it scrolls by keyboard
  close.textContent = "Close";
  large.append(close, copy);
  large.addEventListener("click", () => large.close());
  large.addEventListener("close", () => { large.remove(); picture.focus(); });
  document.body.append(large);
  large.showModal();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const picture of document.querySelectorAll("article figure img")) {
    if (picture.closest("a, button, .ilsvrc-filters")) continue;
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.setAttribute("aria-haspopup", "dialog");
    picture.title = "Enlarge";
    picture.addEventListener("click", () => enlarge(picture));
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      enlarge(picture);
    });
  }
});

// What the theme leaves without a name, for those who hear the page.
document.addEventListener("DOMContentLoaded", () => {
  for (const fold of document.querySelectorAll("li.has-children > details > summary")) {
    fold.setAttribute("aria-label", `Pages under ${fold.closest("li").querySelector("a").textContent.trim()}`);
  }
  const logo = document.querySelector(".bd-sidebar-primary .navbar-brand");
  logo?.parentElement.setAttribute("role", "navigation");
  logo?.parentElement.setAttribute("aria-label", "First page");
});
