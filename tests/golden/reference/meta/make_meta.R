# Values that the meta-analytic range is held against. Run here: Rscript make_meta.R
# Debian's r-cran-metafor; versions are written to versions.txt.
suppressMessages(library(metafor))
exact <- function(x) sprintf("%.17g", x)
set.seed(404)
sets <- list(
  three  = list(k = 3,  tau = 6,  sigma = 25),
  six    = list(k = 6,  tau = 8,  sigma = 30),
  twelve = list(k = 12, tau = 3,  sigma = 5),
  alike  = list(k = 5,  tau = 0,  sigma = 20))
trials <- do.call(rbind, lapply(names(sets), function(name) with(sets[[name]], {
  n <- sample(15:900, k)
  y <- if (tau == 0) 150 + rnorm(k, 0, 0.2 * sigma / sqrt(n)) else rnorm(k, 150, sqrt(tau^2 + sigma^2 / n))
  data.frame(set = name, n = n, mean = round(y, 3), sd = round(sigma * sqrt(rchisq(k, n - 1) / (n - 1)), 3))
})))
write.csv(trials, "trials.csv", row.names = FALSE, quote = FALSE)
rows <- list()
for (name in names(sets)) {
  d <- trials[trials$set == name, ]
  fit <- rma(yi = mean, vi = sd^2 / n, data = d, method = "REML",
             control = list(threshold = 1e-12, maxiter = 10000, stepadj = 0.5))
  sigma2 <- sum((d$n - 1) * d$sd^2) / sum(d$n - 1)
  mu <- as.numeric(fit$beta); tau2 <- fit$tau2
  mu_e <- sum(d$n * d$mean) / sum(d$n)
  between <- sum((d$n - 1) * (d$mean - mu_e)^2) / sum(d$n - 1)
  w <- d$n / sum(d$n)
  for (centile in c(2.5, 5, 50, 97.5)) {
    p <- centile / 100; z <- qnorm(p)
    se <- sqrt(fit$se^2 + z^2 * (fit$se.tau2^2 + 2 * sigma2^2 / sum(d$n - 1)) / (4 * (tau2 + sigma2)))
    mixture <- uniroot(function(x) sum(w * pnorm(x, d$mean, d$sd)) - p, c(-1e3, 1e3), tol = 1e-13)$root
    rows[[length(rows) + 1]] <- data.frame(
      set = name, centile = centile, mean = exact(mu), tau2 = exact(tau2), sigma2 = exact(sigma2),
      marginal = exact(mu + z * sqrt(tau2 + sigma2)), conditional = exact(mu + z * sqrt(sigma2)),
      delta_se = exact(se), empirical_mean = exact(mu_e),
      empirical = exact(mu_e + z * sqrt(between + sigma2)), mixture = exact(mixture))
  }
}
write.csv(do.call(rbind, rows), "meta.csv", row.names = FALSE, quote = FALSE)
writeLines(c(R.version.string, paste("metafor", packageVersion("metafor"))), "versions.txt")
