# Golden values of one-stage Gaussian models on simulated participants.
# Run: Rscript one_stage.R > one_stage.json   (writes one_stage_people.csv beside it)
suppressMessages({library(lme4); library(pbkrtest); library(lmerTest); library(nlme); library(jsonlite)})
RNGversion("4.2.0"); set.seed(20240917)

# S: eight trials of 40 to 150; F: four small trials with unequal residual spread; M: six of 30.
make <- function(set, n, tau, sds) do.call(rbind, lapply(seq_along(n), function(i) {
  treat <- rbinom(n[i], 1, if (i %% 3 == 0) 2/3 else 1/2)
  age <- round(rnorm(n[i], 60 + i, 8), 1)
  base <- rnorm(n[i], 45 + 2 * i, 9)
  u <- rnorm(1, 0, tau)
  y <- 15 + i + (0.5 + 0.05 * i) * base - 0.1 * age + (2.5 + u) * treat + rnorm(n[i], 0, sds[i])
  data.frame(set = set, trial = sprintf("%s%d", set, i), treat = treat, age_years = age,
             lv_ef_baseline = base, lv_ef_percent = y)
}))
rows <- rbind(make("S", c(40, 55, 70, 90, 110, 60, 150, 80), 2, c(4, 6, 8, 5, 7, 9, 6, 5)),
              make("F", c(24, 30, 26, 40), 3, c(3, 7, 5, 9)),
              make("M", c(30, 28, 34, 31, 27, 36), 2.5, c(4, 7, 5, 8, 3, 6)))
rows$participant_id <- sprintf("%s-%03d", rows$trial, ave(seq_len(nrow(rows)), rows$trial, FUN = seq_along))
rows$arm <- ifelse(rows$treat == 1, "active", "control")
write.csv(rows[c("set", "trial", "participant_id", "arm", "age_years", "lv_ef_baseline", "lv_ef_percent")],
          "one_stage_people.csv", row.names = FALSE, quote = FALSE)
rows <- read.csv("one_stage_people.csv"); rows$treat <- as.numeric(rows$arm == "active")
rows$y <- rows$lv_ef_percent; rows$b <- rows$lv_ef_baseline; rows$age <- rows$age_years
tight <- lmerControl(optimizer = "bobyqa", optCtrl = list(maxfun = 1e6, rhoend = 1e-12),
                     calc.derivs = FALSE, check.conv.grad = "ignore", check.conv.hess = "ignore",
                     check.conv.singular = "ignore")

common <- function(d, f, REML = TRUE) {
  m <- lmerTest::lmer(f, d, REML = REML, control = tight)
  b <- fixef(m)[["treat"]]; v <- as.data.frame(VarCorr(m))
  out <- list(estimate = b, se = sqrt(vcov(m)["treat", "treat"]), tau2 = v$vcov[v$grp != "Residual"],
              sigma2 = sigma(m)^2, criterion = if (REML) REMLcrit(m) else deviance(m))
  if (REML) {
    l <- as.numeric(names(fixef(m)) == "treat")
    kr <- pbkrtest::vcovAdj(m); out$kr_se <- sqrt(as.numeric(kr["treat", "treat"]))
    out$kr_df <- pbkrtest::Lb_ddf(l, vcov(m), kr)
    s <- lmerTest::contest1D(m, l, ddf = "Satterthwaite"); out$satterthwaite_df <- s$df
  }
  out
}
# nlme: a residual variance of each trial, or of each trial and arm. Its optimiser stops early, so
# its estimates are held to 2e-4 and its criterion to 1e-9; `dense` holds the same to 1e-6.
by_trial <- function(d, f, group, method = "REML") {
  d$g <- factor(d[[group]]); d$trial <- factor(d$trial)
  ctrl <- lmeControl(maxIter = 1000, msMaxIter = 1000, niterEM = 200, tolerance = 1e-14, msTol = 1e-16,
                     opt = "nlminb", msVerbose = FALSE, returnObject = TRUE)
  m <- lme(f, random = ~ 0 + treat | trial, weights = varIdent(form = ~ 1 | g), data = d,
           method = method, control = ctrl)
  s <- m$sigma^2 * (1 / varWeights(m$modelStruct$varStruct))^2
  s <- tapply(s, d$g[order(d$trial)], function(x) x[1]); s <- s[levels(d$g)]
  list(estimate = fixef(m)[["treat"]], se = sqrt(vcov(m)["treat", "treat"]),
       tau2 = as.numeric(getVarCov(m)[1, 1]), variances = as.list(s),
       criterion = -2 * as.numeric(logLik(m)))
}
# The formulas of Kenward & Roger (1997) and of REML as they stand, with n x n matrices, by Fisher
# scoring until nothing moves: nothing of the sums or of absorbing is used.
dense <- function(d, group) {
  X <- model.matrix(~ 0 + trial + trial:b + treat, d); y <- d$y; n <- nrow(X)
  g <- factor(d[[group]]); tr <- factor(d$trial)
  Vd <- c(list(outer(d$treat, d$treat) * outer(as.integer(tr), as.integer(tr), "==")),
          lapply(levels(g), function(l) diag(as.numeric(g == l))))
  phi <- c(1, rep(30, nlevels(g))); L <- length(phi); sp <- function(A, B) sum(A * t(B))
  for (it in 1:400) {
    Vi <- solve(Reduce(`+`, Map(`*`, phi, Vd))); F <- solve(t(X) %*% Vi %*% X)
    P <- Vi - Vi %*% X %*% F %*% t(X) %*% Vi; Py <- as.numeric(P %*% y)
    PV <- lapply(Vd, function(M) P %*% M)
    sc <- sapply(1:L, function(r) -.5 * (sum(diag(PV[[r]])) - sum(Py * (Vd[[r]] %*% Py))))
    I <- outer(1:L, 1:L, Vectorize(function(r, s) .5 * sp(PV[[r]], PV[[s]])))
    new <- phi + solve(I, sc); new[1] <- max(new[1], 0); new[-1] <- pmax(new[-1], phi[-1] / 2)
    done <- max(abs(new - phi) / (abs(phi) + 1e-8)) < 1e-13; phi <- new; if (done) break
  }
  Vi <- solve(Reduce(`+`, Map(`*`, phi, Vd))); F <- solve(t(X) %*% Vi %*% X); W <- solve(I)
  beta <- F %*% t(X) %*% Vi %*% y; VX <- Vi %*% X
  Pm <- lapply(Vd, function(M) -t(VX) %*% M %*% VX)
  A <- matrix(0, ncol(X), ncol(X))
  for (r in 1:L) for (s in 1:L) A <- A + W[r, s] *
    (t(VX) %*% Vd[[r]] %*% Vi %*% Vd[[s]] %*% VX - Pm[[r]] %*% F %*% Pm[[s]])
  FA <- F + 2 * F %*% A %*% F
  l <- as.numeric(colnames(X) == "treat")
  gr <- sapply(Pm, function(M) as.numeric(t(l) %*% F %*% M %*% F %*% l))
  v <- as.numeric(t(l) %*% F %*% l)
  obs <- outer(1:L, 1:L, Vectorize(function(r, s) {
    P <- Vi - VX %*% F %*% t(VX); Py <- P %*% y
    as.numeric(t(Py) %*% Vd[[r]] %*% P %*% Vd[[s]] %*% Py) - .5 * sp(P %*% Vd[[r]], P %*% Vd[[s]]) }))
  list(estimate = beta[l == 1], se = sqrt(v), tau2 = phi[1],
       variances = as.list(setNames(phi[-1], levels(g))), kr_se = sqrt(FA[l == 1, l == 1]),
       kr_df = 2 * v^2 / as.numeric(t(gr) %*% W %*% gr),
       satterthwaite_df = 2 * v^2 / as.numeric(t(gr) %*% solve(obs) %*% gr))
}
out <- list()
for (s in c("S", "F", "M")) {
  d <- rows[rows$set == s, ]; d$trial <- factor(d$trial); d$cell <- paste(d$trial, d$arm)
  ancova <- y ~ 0 + trial + trial:b + treat + (0 + treat | trial)
  out[[s]] <- list(
    common = common(d, ancova),
    common_ml = common(within(d, treat <- treat - ave(treat, trial)), ancova, FALSE),
    common_age = common(d, y ~ 0 + trial + trial:b + trial:age + treat + (0 + treat | trial)),
    by_trial = by_trial(d, y ~ 0 + trial + trial:b + treat, "trial"),
    by_arm = by_trial(d, y ~ 0 + trial + trial:b + treat, "cell"))
  if (s != "S") out[[s]] <- c(out[[s]], list(
    dense_by_trial = dense(d, "trial"), dense_by_arm = dense(d, "cell")))
}
cat(toJSON(list(
  made_by = c(list(R = R.version.string), sapply(c("lme4", "pbkrtest", "lmerTest", "nlme"),
              function(p) as.character(packageVersion(p)), simplify = FALSE)),
  sets = out), digits = I(17), auto_unbox = TRUE, pretty = TRUE), "\n")
